"""The flags that come before a command: the daemon's, and what a client needs to find one."""

from __future__ import annotations

from .flags import Flag

COMMON = [
    Flag("-H --host", "hosts", list, "Address to listen on, or to connect to (unix://, tcp://, fd://)"),
    Flag("-D --debug", "debug", bool, "Log at level debug"),
    Flag("-l --log-level", "log_level", str, 'Set the logging level ("debug", "info", "warn", "error", "fatal")'),
    Flag("--tls", "tls", bool, "Use TLS; implied by --tlsverify. --tls=false allows TCP without it"),
    Flag("--tlsverify", "tlsverify", bool, "Use TLS and verify the remote"),
    Flag("--tlscacert", "tlscacert", str, "Trust certs signed only by this CA"),
    Flag("--tlscert", "tlscert", str, "Path to TLS certificate file"),
    Flag("--tlskey", "tlskey", str, "Path to TLS key file"),
    Flag("-v --version", "version", bool, "Print version information and quit"),
    Flag("--help", "help", bool, "Print usage"),
]
DAEMON = [
    Flag("-d --daemon", "daemon", bool, "Run the daemon"),
    Flag("-G --group", "group", str, "Group for the unix socket"),
    Flag("-g --data-root --graph", "data_root", str, "Folder of what must outlive the host"),
    Flag("--exec-root", "exec_root", str, "Folder of what runs"),
    Flag("-s --storage-driver", "storage_driver", str, "Storage driver to use"),
    Flag("-e --exec-driver", "exec_driver", str, "Exec driver to use"),
    Flag("-p --pidfile", "pidfile", str, "Path to use for the daemon's PID file"),
    Flag("--config-file", "config_file", str, "Configuration file, YAML or JSON, with daemon.json's keys"),
    Flag("--label", "labels", list, "Set key=value labels to the daemon"),
    Flag("--api-enable-cors", "api_enable_cors", bool, "Enable CORS headers in the API"),
    Flag("--api-cors-header", "api_cors_header", str, "Set CORS headers in the API"),
    Flag("--plugin", "plugins", list, "Install a plugin: a Python file or module"),
    Flag("--plugins-dir", "plugins_dir", str, "Install every *.py in this folder"),
    Flag("--ignore-plugin-errors", "ignore_plugin_errors", bool, "Start without the plugins that fail"),
    Flag("--insecure-registry", "insecure_registries", list, "Registry, or CIDR of registries, to use without TLS"),
    Flag("--registry-mirror", "registry_mirrors", list, "Preferred registry mirror"),
    Flag("--shutdown-timeout", "shutdown_timeout", float, "Seconds that running jobs may take to finish"),
]
NOT_CONFIG = frozenset({"version", "help", "daemon", "config_file"})  # what no Config has a field for
