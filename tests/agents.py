"""Agents as tests need them: the official client of the protocol, connected to our shim in one way or another."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mcp import Client, StdioServerParameters
from mcp.types import TextContent

from tests.acceptance.working import PENSTOCK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from mcp.client.extension import ClientExtension
    from mcp.server import MCPServer
    from mcp.types import CallToolResult, Tool

SECONDS: Final = 60.0
"""How long an agent talks at most."""


@dataclass(frozen=True, slots=True)
class Agent:
    """A client, and the progress that it was told of."""

    client: Client
    progress: list[tuple[float, str | None]] = field(default_factory=list)

    async def tools(self) -> list[Tool]:
        """Return the tools that the server shows this client."""
        return (await self.client.list_tools()).tools

    async def call(self, tool: str, /, **arguments: object) -> CallToolResult:
        """Call a tool; whatever comes of it."""
        return await self.client.call_tool(tool, arguments, progress_callback=self._note)

    async def ask(self, tool: str, /, **arguments: object) -> dict[str, Any]:
        """Call a tool that should succeed, and return its structured answer."""
        result = await self.call(tool, **arguments)
        assert not result.is_error, text_of(result)
        answer: dict[str, Any] = result.structured_content
        assert answer == json.loads(text_of(result)), "clients without structured answers read the same"
        return answer

    async def refused(self, tool: str, /, **arguments: object) -> tuple[str, str]:
        """Call a tool that should fail, and return the code and the rest of its words."""
        result = await self.call(tool, **arguments)
        assert result.is_error, text_of(result)
        code, _, words = text_of(result).partition(": ")
        return code, words

    async def _note(self, progress: float, total: float | None, message: str | None) -> None:
        assert total == 100
        self.progress.append((progress, message))


def text_of(result: CallToolResult) -> str:
    """Return the one text of an answer."""
    [content] = result.content
    assert isinstance(content, TextContent)
    assert "type" in content.model_fields_set, "the wire must say what it is; other clients assume nothing"
    return content.text


@asynccontextmanager
async def connected(
    server: MCPServer[Any] | StdioServerParameters | str,
    mode: str = "auto",
    extensions: Sequence[ClientExtension] = (),
) -> AsyncIterator[Agent]:
    """Yield an agent that speaks to a server: in this process, one that it starts, or one at a URL."""
    async with Client(server, mode=mode, extensions=extensions) as client:
        yield Agent(client)


def shim(environment: Mapping[str, str]) -> StdioServerParameters:
    """Return how to start the shim over stdio."""
    program, *arguments = PENSTOCK
    return StdioServerParameters(command=program, args=[*arguments, "mcp"], env=os.environ | environment)


def talk(conversation: Callable[[], Awaitable[None]]) -> None:
    """Have a conversation, which may not last for ever."""

    async def bounded() -> None:
        async with asyncio.timeout(SECONDS):
            await conversation()

    asyncio.run(bounded())
