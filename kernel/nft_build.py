"""Builds `windlass.kernel._nft`: what `nft.py` calls of libnftables.so.1, opened at run time, not linked to.

So neither its headers nor itself are needed to build or to install. As in `sys_build.py`: limited API, no GIL in calls.
"""

from cffi import FFI

ffibuilder = FFI()
ffibuilder.cdef(
    """
    struct nft_ctx;
    int nft_open(void);
    extern struct nft_ctx *(*nft_ctx_new)(uint32_t flags);
    extern void (*nft_ctx_free)(struct nft_ctx *context);
    extern void (*nft_ctx_output_set_flags)(struct nft_ctx *context, unsigned int flags);
    extern int (*nft_ctx_buffer_output)(struct nft_ctx *context);
    extern const char *(*nft_ctx_get_output_buffer)(struct nft_ctx *context);
    extern int (*nft_ctx_buffer_error)(struct nft_ctx *context);
    extern const char *(*nft_ctx_get_error_buffer)(struct nft_ctx *context);
    extern int (*nft_run_cmd_from_buffer)(struct nft_ctx *context, const char *commands);
    """
)
ffibuilder.set_source(
    "windlass.kernel._nft",
    """
    #include <dlfcn.h>
    #include <stdint.h>

    struct nft_ctx;
    static struct nft_ctx *(*nft_ctx_new)(uint32_t flags);
    static void (*nft_ctx_free)(struct nft_ctx *context);
    static void (*nft_ctx_output_set_flags)(struct nft_ctx *context, unsigned int flags);
    static int (*nft_ctx_buffer_output)(struct nft_ctx *context);
    static const char *(*nft_ctx_get_output_buffer)(struct nft_ctx *context);
    static int (*nft_ctx_buffer_error)(struct nft_ctx *context);
    static const char *(*nft_ctx_get_error_buffer)(struct nft_ctx *context);
    static int (*nft_run_cmd_from_buffer)(struct nft_ctx *context, const char *commands);

    /* Opens the library and finds all of the above. 0 when it is not here, or lacks one of them. */
    static int nft_open(void)
    {
        void *library = dlopen("libnftables.so.1", RTLD_NOW | RTLD_LOCAL);

    #define FIND(name) (*(void **)&name = dlsym(library, #name))
        return library && FIND(nft_ctx_new) && FIND(nft_ctx_free) && FIND(nft_ctx_output_set_flags) &&
               FIND(nft_ctx_buffer_output) && FIND(nft_ctx_get_output_buffer) && FIND(nft_ctx_buffer_error) &&
               FIND(nft_ctx_get_error_buffer) && FIND(nft_run_cmd_from_buffer);
    }
    """,
    py_limited_api=True,
)
