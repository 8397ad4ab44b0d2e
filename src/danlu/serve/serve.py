"""Serve models over HTTP: OpenAI's API, and a page to talk to them.

通过 HTTP 提供模型服务:OpenAI 兼容接口,以及一个可以直接对话的页面。

Example: danlu serve runs/quickstart/sft/model
Several models: --also FOLDER --also FOLDER. It listens on this machine alone unless --host says otherwise. The key
may come from the environment: DANLU_API_KEY. /metrics is for Prometheus, /healthz and /readyz for orchestrators.
"""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from danlu.core.config import Config as Base
from danlu.core.config import Input, doc
from danlu.core.errors import ConfigError, MissingExtraError
from danlu.core.i18n import tr
from danlu.generate.engine import EngineConfig

if TYPE_CHECKING:
    from danlu.serve.served import Served
    from danlu.serve.server import Background

__all__ = ["Config", "run", "start_in_background"]

_EXTRA = {"fastapi", "starlette", "uvicorn", "sse_starlette", "prometheus_client"}
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Config(Base):
    """What to serve, where, to whom."""

    folder: Input = doc(..., "model folder", "模型文件夹")
    also: list[Input] = doc([], "more model folders, served beside it", "同时提供服务的其他模型文件夹")
    host: str = doc(
        "127.0.0.1", "address to listen on; 0.0.0.0 lets the whole network in", "监听地址;0.0.0.0 表示对整个网络开放"
    )
    port: int = doc(8000, "port; 0 takes any free one", "端口;0 表示任取一个空闲端口", ge=0, le=65535)
    name: str | None = doc(
        None, "the model's name for clients; default: the folder's", "客户端看到的模型名;默认取自文件夹"
    )
    api_key: str | None = doc(
        None,
        "clients must send this key; default: DANLU_API_KEY, else none",
        "客户端必须携带的密钥;默认取 DANLU_API_KEY,没有则不需要",
    )
    max_waiting: int = doc(
        64, "requests a model's queue holds; more get 429", "每个模型的等候队列长度;再多则返回 429", ge=0
    )
    grace: float = doc(
        10.0, "seconds that running requests have when the server stops", "停止服务时留给进行中请求的秒数", ge=0
    )
    engine: EngineConfig = doc(EngineConfig(), "how the engine runs", "推理引擎设置")


def run(config: Config) -> None:
    """Serve until Ctrl-C or SIGTERM. Raises ServeError, FolderError, MissingExtraError."""
    import logging

    from rich.console import Console
    from rich.logging import RichHandler

    key = config.api_key or os.environ.get("DANLU_API_KEY") or None
    _need_extra()
    from danlu.serve.app import create_app
    from danlu.serve.server import Server, listen, url_of

    listener = listen(config.host, config.port)  # before the models are loaded: a taken port should be told at once
    with listener:
        models = _open(config)
        app = create_app(
            models,
            api_key=key,
            max_waiting=config.max_waiting,
            grace=config.grace,
            local_only=key is None and config.host in _LOOPBACK,
        )
        handler = RichHandler(console=Console(stderr=True), show_path=False)
        logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
        logging.getLogger("danlu.serve").setLevel(logging.INFO)
        _tell(url_of(listener), models, key is not None, config.host)
        Server(app, config.grace).run([listener])
    print(tr("stopped", "已停止"))


def start_in_background(
    folder: Path | str,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    engine: EngineConfig | None = None,
    max_waiting: int = 64,
) -> "Background":
    """A real server for a model folder, in a thread of this process: `.url`, `.stop()`, or a `with` block.

    Raises ServeError, FolderError, MissingExtraError.
    """
    _need_extra()
    from danlu.serve.app import create_app
    from danlu.serve.server import Background, listen

    listener = listen(host, port)
    try:
        config = Config(folder=Path(folder), engine=engine or EngineConfig())
        app = create_app(_open(config), max_waiting=max_waiting, local_only=host in _LOOPBACK)
    except BaseException:
        listener.close()
        raise
    return Background(app, listener)


def _need_extra() -> None:
    from importlib.util import find_spec

    for package in sorted(_EXTRA):
        if find_spec(package) is None:
            raise MissingExtraError(package.replace("_", "-"), "serve")


def _open(config: Config) -> "list[Served]":
    from danlu.serve.served import Served, names_of

    folders = [config.folder, *config.also]
    names = names_of(folders)
    if config.name is not None:
        names[0] = config.name
        if config.name in names[1:]:
            what = tr(f"two models would be called '{config.name}'", f"有两个模型都叫“{config.name}”")
            raise ConfigError(what, tr("choose another --name", "请换一个 --name"))
    return [Served.open(folder, name, config.engine) for folder, name in zip(folders, names, strict=True)]


def _tell(url: str, models: "list[Served]", key: bool, host: str) -> None:
    """Where to look, and something to paste. Plain lines, so that a narrow terminal does not break them."""
    first = models[0]
    names = ", ".join(model.name for model in models)
    print(tr(f"models:  {names}", f"模型:    {names}"))
    print(tr(f"page:    {url}/", f"页面:    {url}/"))
    print(tr(f"API:     {url}/v1  (OpenAI's)", f"接口:    {url}/v1 (OpenAI 兼容)"))
    print(tr("try:", "试一试:"))
    print(example(url, first, key))
    if host not in _LOOPBACK and not key:
        print(
            tr(
                "anyone on the network can use it; --api-key KEY keeps strangers out",
                "网络中的任何人都能使用;用 --api-key 密钥 可拒绝陌生人",
            )
        )
    print(tr("Ctrl-C stops it", "按 Ctrl-C 停止"), flush=True)


def example(url: str, model: "Served", key: bool) -> str:
    """A curl command that can be pasted."""
    poem = model.poet
    if model.tuned:
        ask = "写一首七言绝句，题为《江南春》。" if poem else tr("Hello!", "你好!")
        path, body = "/v1/chat/completions", {"model": model.name, "messages": [{"role": "user", "content": ask}]}
    else:
        path, body = (
            "/v1/completions",
            {"model": model.name, "prompt": "《江南春》\n" if poem else tr("Once", "从前"), "max_tokens": 64},
        )
    data = json.dumps(body, ensure_ascii=False).replace("'", "'\\''")
    bearer = ' -H "Authorization: Bearer $DANLU_API_KEY"' if key else ""
    return f"  curl {url}{path} -H 'Content-Type: application/json'{bearer} -d '{data}'"
