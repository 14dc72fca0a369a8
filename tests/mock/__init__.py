"""A provider of OpenAI's dialect that tests can script down to the byte.

    mock = Mock().start()
    case = mock.case(behaviour.stream("Hello", " world"))
    ... send case.body(stream=True) to a relay whose upstream is mock.base_url ...
    assert case.exchanges[0].header("authorization") == "Bearer ..."

`server` holds sockets and records, `behaviour` what an answer can look like, `openai` the dialect's objects.
"""

from mock.server import Case, Exchange, Mock, Pace

__all__ = ["Case", "Exchange", "Mock", "Pace"]
