/* The modes of windlass-shim: what argv[1] names.  Each is a program of its own that shares the binary.
 *
 * argv[0] is the mode's own name, argv[1] its first argument; the answer is the exit status.
 */
#ifndef WINDLASS_MODES_H
#define WINDLASS_MODES_H

int run_main(int argc, char **argv);    /* run CONTAINER-ID: start and supervise a container */
int copyup_main(int argc, char **argv); /* copyup TARGET PATH LOWER ...: fill a new volume with what an image has there */
int files_main(int argc, char **argv);  /* files WORLD OPERATION ...: a container's files, in and out */
int init_main(int argc, char **argv);   /* init -- PROGRAM ...: the first process of a container of --init */
int logs_main(int argc, char **argv);   /* logs PATH MAXFILES FLAGS TAIL SINCE UNTIL: read a json-file log */
int net_main(int argc, char **argv);    /* net: names, proxied ports and held ports of all containers */
int userns_main(int argc, char **argv); /* userns net|"" PATH|"": hold new namespaces until standard input ends */
int unpack_main(int argc, char **argv); /* unpack ...: read a layer's tar stream into the current directory */

#endif
