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
    Flag("-b --bridge", "bridge", str, 'Attach containers to this bridge; "none" for no default bridge'),
    Flag("--bip", "bip", str, "Address of the default bridge, in CIDR notation"),
    Flag("--bip6", "bip6", str, "IPv6 address of the default bridge, in CIDR notation"),
    Flag("--fixed-cidr", "fixed_cidr", str, "IPv4 subnet that addresses on the default bridge are given from"),
    Flag("--fixed-cidr-v6", "fixed_cidr_v6", str, "IPv6 subnet that addresses on the default bridge are given from"),
    Flag("--default-gateway", "default_gateway", str, "Default gateway of containers on the default bridge"),
    Flag("--default-gateway-v6", "default_gateway_v6", str, "The same for IPv6"),
    Flag("--default-address-pool", "default_address_pools", list, "Where subnets are taken from: base=CIDR,size=N"),
    Flag("--mtu", "mtu", int, "MTU of containers' interfaces on the default bridge"),
    Flag("--icc", "icc", bool, "Let containers of the default bridge reach each other"),
    Flag("--ip", "ip", str, "Address of the host that ports are published on when nobody says"),
    Flag("--ip-forward", "ip_forward", bool, "Turn on the host's forwarding when a network needs it"),
    Flag("--ip-masq", "ip_masq", bool, "Translate addresses of what leaves the default bridge"),
    Flag("--iptables", "iptables", bool, "Keep packet filter rules, in a table of our own"),
    Flag("--ipv6", "ipv6", bool, "IPv6 on the default bridge"),
    Flag("--userland-proxy", "userland_proxy", bool, "Carry what the kernel cannot translate, such as [::1]"),
    Flag("--host-gateway-ip", "host_gateway_ips", list, "What host-gateway stands for in --add-host"),
    Flag("--dns", "dns", list, "DNS server for containers"),
    Flag("--dns-opt", "dns_opts", list, "DNS option for containers"),
    Flag("--dns-search", "dns_search", list, "DNS search domain for containers"),
    Flag("--default-ulimit", "default_ulimits", list, "Default ulimit of containers: NAME=SOFT[:HARD]"),
    Flag("--shutdown-timeout", "shutdown_timeout", float, "Seconds that running jobs may take to finish"),
]
NOT_CONFIG = frozenset({"version", "help", "daemon", "config_file"})  # what no Config has a field for
