"""Puts a windlass together. The only place that knows every subsystem.

    main_daemon    an engine with HTTP in front, until a signal ends it: `windlass daemon`
    open           the same engine in a script's own process, without HTTP: `windlass.open()`

Start-up follows Docker's mainDaemon. What is quick is registered first, the listeners are bound, and the daemon is
built in the background meanwhile: early clients wait at the gate instead of failing. `acceptconnections` opens it.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from pathlib import Path

import msgspec
import trio

from windlass import events
from windlass.api import serve as api
from windlass.daemon import system
from windlass.daemon.daemon import Dns
from windlass.daemon.install import install as install_daemon
from windlass.daemon.limits import check_ulimits
from windlass.daemon.remap import load_remap
from windlass.engine import Engine, Portal, plugins
from windlass.engine.errors import BadParameter, Conflict, JobError, Unsupported
from windlass.execdriver import native
from windlass.execdriver.native.launch import NativeDriver
from windlass.graphdriver.btrfs import Btrfs
from windlass.graphdriver.driver import Driver
from windlass.graphdriver.overlay2 import Overlay2
from windlass.graphdriver.vfs import Vfs
from windlass.image.gc import interval_of, run_regularly
from windlass.image.install import install as install_images
from windlass.jobs.container_config import Ulimit
from windlass.jobs.networks import AddressPool, InitNetworkdriver
from windlass.jobs.supervision import ContainersRestore
from windlass.lib.blobs import Blobs
from windlass.lib.config import DEFAULT_HOST, Config
from windlass.lib.database import Database
from windlass.lib.pidfile import Held, Lock
from windlass.lib.trap import trap
from windlass.lib.version import VERSION, commit
from windlass.network.install import install as install_networks
from windlass.registry.install import install as install_registry
from windlass.registry.settings import Settings as RegistrySettings
from windlass.volume.install import install as install_volumes

SHIM = Path(native.__file__).with_name("windlass-shim")
FILES = SHIM.with_name("windlass-files")  # for layers and volumes
HELPER = SHIM.with_name("windlass-net")  # for names and ports of all containers
FAILED = 1  # exit status of a daemon that could not start
GRAPH_DRIVERS = {"overlay2": Overlay2, "btrfs": Btrfs, "vfs": Vfs}  # the best first

logger = logging.getLogger("windlass")


def run_daemon(config: Config) -> int:
    """`main_daemon` in a loop of its own, for the command line, which knows no trio."""
    return trio.run(main_daemon, config)


async def main_daemon(config: Config) -> int:
    """Run a daemon until a signal ends it; return its exit status: 0, or 1 when it could not start."""
    ending = trio.Event()
    is_up = False
    try:
        with roots(config) as held:
            async with trio.open_nursery() as nursery:
                engine = Engine()
                await nursery.start(trap, ending.set, functools.partial(_running, engine))
                is_up = await _live(engine, config, held, ending)
                nursery.cancel_scope.cancel()
    except* (JobError, OSError) as failures:
        for failure in _leaves(failures):
            logger.critical("windlass did not start: %s", failure)
    return 0 if is_up else FAILED


async def _live(engine: Engine, config: Config, held: ExitStack, ending: trio.Event) -> bool:
    """Serve until `ending`; return False when the daemon could not be built."""
    is_up = True

    async def build_or_end() -> None:
        nonlocal is_up
        is_up = await _build_and_accept(engine, config, held)
        if not is_up:
            ending.set()

    async with engine:
        register(engine)
        api.install(engine)
        await _serve(engine, config)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(build_or_end)
            await ending.wait()
            nursery.cancel_scope.cancel()
        report = await engine.shutdown(config.shutdown_timeout)
    logger.info("windlass is down%s", "" if report.is_clean else f": {report}")
    return is_up


async def _serve(engine: Engine, config: Config) -> None:
    """Bind every listener. Nobody is answered yet."""
    await engine.job(
        "serveapi",
        *(config.hosts or [DEFAULT_HOST]),
        Logging=True,
        EnableCors=config.api_enable_cors,
        CorsHeaders=config.api_cors_header,
        Version=VERSION,
        SocketGroup=config.group,
        Tls=config.tls or config.tlsverify,
        AllowPlainTcp=config.tls is False,
        TlsVerify=config.tlsverify,
        TlsCa=config.tlscacert,
        TlsCert=config.tlscert,
        TlsKey=config.tlskey,
        BufferRequests=True,
    ).start()


async def _build_and_accept(engine: Engine, config: Config, held: ExitStack) -> bool:
    """Build the daemon and open the gate; when that fails, who waits there is told why."""
    try:
        await build(engine, config, held)
    except Exception as exc:  # whatever it is, clients wait for an answer
        logger.critical("windlass did not start: %s", exc, exc_info=None if _is_expected(exc) else exc)
        await engine.job("acceptconnections", error=f"windlass did not start: {exc}").run()
        return False
    await engine.job("acceptconnections").run()
    return True


def _is_expected(exc: Exception) -> bool:
    """True for what is told in a sentence; the rest is a fault of ours, whose traceback we want."""
    return isinstance(exc, JobError | OSError | plugins.PluginError)


def _running(engine: Engine) -> str:
    return "jobs: " + (", ".join(map(str, engine.running.values())) or "none")


# -- assembly ----------------------------------------------------------------------------------------------------


def register(engine: Engine) -> None:
    """Install what is quick and needs no disk."""
    system.install_version(engine, commit())
    events.install(engine)


async def build(engine: Engine, config: Config, held: ExitStack) -> None:
    """Build the daemon on its roots, which are locked: databases, drivers, subsystems, plugins.

    What has to be closed when the engine has ended is left in `held`.
    """
    data_root, exec_root = Path(config.data_root), Path(config.exec_root)
    assert engine.nursery is not None
    durable = held.enter_context(closing(Database(data_root / "windlass.db")))
    run = held.enter_context(closing(Database(exec_root / "run.db", "OFF")))
    driver = held.enter_context(closing(exec_driver(config.exec_driver, exec_root, engine.nursery)))
    graph = graph_driver(config.storage_driver, data_root, str(FILES))
    blobs = Blobs(data_root / "blobs")
    collection = {key: value for key, value in msgspec.structs.asdict(config.image_gc).items() if value is not None}
    interval = collection.pop("interval")
    install_images(engine, database=durable, graph=graph, blobs=blobs, data_root=data_root, gc_settings=collection)
    if interval:
        engine.nursery.start_soon(run_regularly, engine, interval_of(interval))
    install_registry(engine, blobs=blobs, settings=_registries(config))
    await install_volumes(engine, nursery=engine.nursery, durable=durable, data_root=data_root, program=str(FILES))
    install_networks(engine, nursery=engine.nursery, durable=durable, run=run, exec_root=exec_root, program=str(HELPER))
    await engine.call(_networkdriver(config))
    await install_daemon(
        engine,
        nursery=engine.nursery,
        durable=durable,
        run=run,
        graph=graph,
        driver=driver,
        data_root=data_root,
        exec_root=exec_root,
        dns=Dns(config.dns, config.dns_opts, config.dns_search),
        default_ulimits=_default_ulimits(config),
        remap=load_remap(config.userns_remap) if config.userns_remap else None,
    )
    system.install_info(engine, _facts(config, graph))
    found = plugins.find(config.plugins, Path(config.plugins_dir) if config.plugins_dir else None)
    system.install_plugins(engine, await plugins.install(engine, found, tolerant=config.ignore_plugin_errors))
    await engine.call(ContainersRestore())
    logger.info("windlass %s %s; execdriver: %s; graphdriver: %s", VERSION, commit(), config.exec_driver, graph.name)


def graph_driver(name: str, data_root: Path, program: str) -> Driver:
    """The graph driver `name`; when it is empty, the first of GRAPH_DRIVERS that works on the data root.

    Raises Unsupported, telling why, when it is unknown or does not work here.
    """
    if name and name not in GRAPH_DRIVERS:
        raise Unsupported(f"unknown storage driver: {name}; there are {', '.join(GRAPH_DRIVERS)}")
    reasons = []
    for each in [name] if name else GRAPH_DRIVERS:
        try:
            return GRAPH_DRIVERS[each](data_root / each, program)
        except (OSError, JobError) as exc:
            reasons.append(f"{each}: {exc}")
    raise Unsupported(f"no storage driver works on {data_root}: {'; '.join(reasons)}")


def exec_driver(name: str, exec_root: Path, nursery: trio.Nursery) -> NativeDriver:
    """The exec driver `name`. Raises Unsupported when it is unknown."""
    if name != NativeDriver.name:
        raise Unsupported(f"unknown exec driver {name}")
    return NativeDriver(exec_root, nursery)


def _default_ulimits(config: Config) -> list[Ulimit]:
    """What containers get that say nothing about their limits. Raises BadParameter for what can be none."""
    try:
        ulimits = [msgspec.convert({"Name": name} | each, Ulimit) for name, each in config.default_ulimits.items()]
    except msgspec.ValidationError as exc:
        raise BadParameter(f"default-ulimits: {exc}", key="default-ulimits") from None
    check_ulimits(ulimits, "default-ulimits")
    return ulimits


def _networkdriver(config: Config) -> InitNetworkdriver:
    """The settings of `init_networkdriver`. Raises BadParameter for pools that are none."""
    try:
        pools = msgspec.convert(config.default_address_pools, list[AddressPool])
    except msgspec.ValidationError as exc:
        raise BadParameter(f"default-address-pools: {exc}", key="default-address-pools") from None
    return InitNetworkdriver(
        EnableIptables=config.iptables,
        InterContainerCommunication=config.icc,
        EnableIpMasq=config.ip_masq,
        EnableIpForward=config.ip_forward,
        EnableIPv6=config.ipv6,
        BridgeIface=config.bridge,
        BridgeIP=config.bip,
        BridgeIP6=config.bip6,
        FixedCIDR=config.fixed_cidr,
        FixedCIDR6=config.fixed_cidr_v6,
        DefaultGateway=config.default_gateway,
        DefaultGateway6=config.default_gateway_v6,
        DefaultBindingIP=config.ip,
        HostGateway=config.host_gateway_ips,
        Mtu=config.mtu,
        UserlandProxy=config.userland_proxy,
        Pools=pools,
    )


def _registries(config: Config) -> RegistrySettings:
    return RegistrySettings(
        mirrors={"docker.io": config.registry_mirrors} | config.mirrors,
        insecure=config.insecure_registries,
        default=config.default_registry,
        certificates=Path(config.certs_dir),
        downloads=config.max_concurrent_downloads,
        uploads=config.max_concurrent_uploads,
        attempts=config.max_download_attempts,
    )


def _facts(config: Config, graph: Driver) -> system.Facts:
    return system.Facts(
        data_root=Path(config.data_root),
        graph_driver=graph.name,
        graph_status=graph.status(),
        exec_driver=config.exec_driver,
        labels=config.labels,
        debug=config.debug or config.log_level == "debug",
        insecure_registries=config.insecure_registries,
        mirrors=config.registry_mirrors,
        commit=commit(),
        is_remapped=bool(config.userns_remap),
    )


# -- roots -------------------------------------------------------------------------------------------------------


@contextmanager
def roots(config: Config) -> Iterator[ExitStack]:
    """Make the data root and the exec root, hold their locks, and the pid file's if there is one.

    Yields the stack of what is held, for more to be put on it. Raises Conflict, naming the folder, when another
    windlass holds one of them.
    """
    folders = {Path(config.data_root): 0o710, Path(config.exec_root): 0o700}
    with ExitStack() as stack:
        for folder, mode in folders.items():
            folder.mkdir(mode=mode, parents=True, exist_ok=True)
            folder.chmod(mode)
            stack.enter_context(_held(folder / "lock", folder))
        if config.pidfile:
            stack.enter_context(_held(Path(config.pidfile), Path(config.pidfile)))
        yield stack


def _held(path: Path, what: Path) -> Lock:
    try:
        return Lock(path)
    except Held as exc:
        who = f"another windlass daemon (process {exc.pid})" if exc.pid else "another windlass daemon"
        raise Conflict(f"{who} holds {what}: use windlass.connect", pid=exc.pid) from None


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """The exceptions in a group of groups."""
    for each in group.exceptions:
        yield from _leaves(each) if isinstance(each, BaseExceptionGroup) else (each,)


# -- in a script -------------------------------------------------------------------------------------------------


def open(
    *,
    data_root: str | Path = "/var/lib/windlass",
    exec_root: str | Path = "/run/windlass",
    storage_driver: str = "",
    plugins: Sequence[str] = (),
) -> Portal:
    """Open an engine in this process, on roots of its own; `close` it, or use it in a `with`.

    Its containers live on when it is closed, and are found again by the next who opens these roots. Raises Conflict
    when a daemon holds them.
    """
    config = Config(
        data_root=str(data_root),
        exec_root=str(exec_root),
        storage_driver=storage_driver,
        plugins=list(plugins),
        plugins_dir="",
    )

    @asynccontextmanager
    async def manage() -> AsyncIterator[Engine]:
        with roots(config) as held:
            async with Engine() as engine:
                register(engine)
                await build(engine, config, held)
                yield engine

    return Portal(manage)
