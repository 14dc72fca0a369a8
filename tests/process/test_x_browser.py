"""The relay from pages of another origin, in a real Chromium: CORS, fetch streaming, EventSource, WebSocket."""

import http.server
import json
import select
import socket
import threading

import pytest

from harness import browser, config
from harness.ports import free_port
from harness.wait import until
from harness.websocket import WebSocket
from mock import behaviour

pytestmark = pytest.mark.skipif(browser.why_not() != "", reason=browser.why_not())

WORDS = [f"word{number} " for number in range(12)]
TEXT = "".join(WORDS)

# Helpers of the tests' page. `seen` is what a test's script has gathered.
PAGE = b"""<!doctype html><title>a page of another site</title><script>
const seen = {text: "", ids: [], opens: 0, done: false, messages: []};
function take(data, id) {
  if (id) seen.ids.push(id);
  if (data === "[DONE]") return seen.done = true;
  seen.text += JSON.parse(data).choices[0]?.delta?.content ?? "";
}
async function read(response) {
  const reader = response.body.getReader(), decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const {value, done} = await reader.read();
    if (done) return seen;
    const events = (rest + decoder.decode(value, {stream: true})).split("\\n\\n");
    rest = events.pop();
    for (const event of events) {
      const data = /^data: (.*)$/m.exec(event), id = /^id: (.*)$/m.exec(event);
      if (data) take(data[1], id && id[1]);
    }
  }
}
const aborter = new AbortController();
const outcome = (promise) => promise.then(() => "let through", (error) => error.name);
const headersOf = (response, names) => Object.fromEntries(names.map((name) => [name, response.headers.get(name)]));
function listen(url) {
  const source = new EventSource(url);
  source.onopen = () => seen.opens += 1;
  source.onmessage = ({data, lastEventId}) => { take(data, lastEventId); if (seen.done) source.close(); };
  source.onerror = () => seen.state = source.readyState;
}
function talk(url, protocols, message) {
  const socket = new WebSocket(url, protocols);
  socket.onopen = () => { seen.opens += 1; seen.protocol = socket.protocol; socket.send(JSON.stringify(message)); };
  socket.onmessage = ({data}) => {
    const said = JSON.parse(data);
    seen.messages.push(said);
    if (said.type === "content.delta") seen.text += said.delta;
    if (said.type === "completion.done") { seen.done = true; socket.close(); }
  };
  socket.onclose = ({code}) => seen.closed = code;
}
</script>"""


class _PageHandler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/" else 404)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *_):
        pass


class Site:
    """A site of its own origin, with one page."""

    def __init__(self):
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", free_port()), _PageHandler)
        self._server.daemon_threads = True
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()


class Cutter:
    """A TCP proxy before the relay whose connections a test can cut."""

    def __init__(self, port):
        self._target = port
        self._pairs = []
        self._listener = socket.create_server(("127.0.0.1", free_port()))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            pair = (client, socket.create_connection(("127.0.0.1", self._target)))
            self._pairs.append(pair)
            threading.Thread(target=self._carry, args=pair, daemon=True).start()

    @staticmethod
    def _carry(client, server):
        try:
            while True:
                for one in select.select([client, server], [], [])[0]:
                    data = one.recv(65536)
                    if not data:
                        return
                    (server if one is client else client).sendall(data)
        except (OSError, ValueError):
            return
        finally:
            client.close()
            server.close()

    def cut(self):
        for pair in self._pairs:
            for one in pair:
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        self._pairs.clear()

    def stop(self):
        self._listener.close()
        self.cut()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    started = browser.Browser(tmp_path_factory.mktemp("chromium"))
    yield started
    started.close()


@pytest.fixture(scope="module")
def site():
    started = Site()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def other_site():
    started = Site()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def open_relay(module_relay, site):
    """Lets the pages of `site`, and of its own admin address, call."""
    port = free_port()
    return module_relay({
        "admin": {"address": f"127.0.0.1:{port}"}, "cors": {"origins": [site.origin, f"http://127.0.0.1:{port}"]},
        "upstreams": {"demo": {"dialect": "demo"}}, "models": {"demo": config.model("demo")}})


@pytest.fixture(scope="module")
def open_key(open_relay):
    return open_relay.create_key(open_relay.create_tenant("pages", "--rpm", "1000"))


@pytest.fixture
def cutter(open_relay):
    started = Cutter(open_relay.port)
    yield started
    started.stop()


@pytest.fixture(scope="module")
def tab(chromium):
    """The tab that most tests use, one after the other: a new one takes long."""
    with chromium.open() as opened:
        yield opened


@pytest.fixture
def visit(tab):
    """visit(url): the tab, with that page."""
    def load(url):
        tab.call("goto", url)
        return tab
    yield load
    assert tab.call("problems") == []
    tab.call("goto", "about:blank")


@pytest.fixture
def page(visit, site):
    return visit(f"{site.origin}/")


def at(place):
    return f"http://127.0.0.1:{place.port}"


def fetching(place, key, body, headers=()):
    """The script of a streaming fetch."""
    sent = {"authorization": f"Bearer {key}", "content-type": "application/json", **dict(headers)}
    options = {"method": "POST", "headers": sent, "body": json.dumps({**body, "stream": True})}
    return f"fetch('{at(place)}/v1/chat/completions', {{signal: aborter.signal, ...{json.dumps(options)}}})"


def source_url(place, key, prompt, **fields):
    return (f"'{at(place)}/v1/stream?' + new URLSearchParams("
            f"{json.dumps({'model': 'test-model', 'prompt': prompt, 'api_key': key, **fields})})")


def talking(place, key, case, protocols=(), query=""):
    message = {"type": "chat.completion", **case.body()}
    return f"talk('ws://127.0.0.1:{place.port}/v1/ws/chat{query}', {json.dumps(list(protocols))}, {json.dumps(message)})"


# --- what is let through ---

def test_fetch_streams_with_headers_of_its_own(page, open_relay, open_key, mock):
    pace = mock.pace()
    case = mock.case(behaviour.stream(*WORDS, pace=pace))
    headers = {"x-tollgate-resume": "1", "idempotency-key": "once-1", "x-request-id": "from-a-page"}
    pace.release(3)
    page.run("void " + fetching(open_relay, open_key, case.body(), headers)
             + f".then((response) => {{ seen.headers = headersOf(response, {json.dumps(EXPOSED)}); return read(response); }})")
    page.until(f"seen.text === {json.dumps(''.join(WORDS[:3]))}", "three words while the upstream waits")
    pace.open()
    page.until("seen.done", "[DONE]")
    seen = page.run("seen")
    assert seen["text"] == TEXT and seen["ids"][0] == "from-a-page:1"
    assert seen["headers"]["x-request-id"] == "from-a-page" and seen["headers"]["x-tollgate-upstream"] == "mock"
    assert all(seen["headers"].values()), seen["headers"]


EXPOSED = ["x-request-id", "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests",
           "x-tollgate-model", "x-tollgate-upstream"]


def test_fetch_comes_back_to_a_stream(page, open_relay, open_key, mock):
    case = mock.case(behaviour.stream(*WORDS))
    page.run(fetching(open_relay, open_key, case.body(), {"x-tollgate-resume": "1"}) + ".then(read)")
    ids = page.run("seen.ids")
    options = {"headers": {"authorization": f"Bearer {open_key}", "last-event-id": ids[4]}}
    identity = ids[0].rsplit(":", 1)[0]
    page.run(f"seen.text = '', fetch('{at(open_relay)}/v1/streams/{identity}', {json.dumps(options)}).then(read)")
    assert page.run("seen.text") == "".join(WORDS[5:]) and case.count == 1


def test_fetch_that_is_aborted_cancels_the_upstream(page, open_relay, open_key, mock):
    case = mock.case(behaviour.stream("a", "b", ending="stall"))
    page.run("void " + fetching(open_relay, open_key, case.body()) + ".then(read).catch(() => {})")
    page.until("seen.text === 'ab'", "both words")
    page.run("aborter.abort()")
    until(lambda: case.last.client_left, "the relay's hanging up")


@pytest.mark.parametrize(("change", "status", "code"), [
    ("key", 401, "invalid_api_key"), ("model", 404, "model_not_found"), ("messages", 400, "missing_field")])
def test_errors_can_be_read(page, open_relay, open_key, mock, change, status, code):
    body = {**mock.case(behaviour.chat()).body(), **({"model": "nobody"} if change == "model" else {})}
    if change == "messages":
        del body["messages"]
    sent = fetching(open_relay, "sk-wrong" if change == "key" else open_key, body)
    answer = page.run(sent + ".then(async (response) => [response.status, response.headers.get('x-request-id'), await response.json()])")
    assert (answer[0], answer[2]["error"]["code"]) == (status, code) and answer[1]


def test_an_event_source_streams(page, open_relay, open_key, mock):
    case = mock.case(behaviour.stream(*WORDS))
    page.run(f"listen({source_url(open_relay, open_key, case.prompt)})")
    page.until("seen.done", "[DONE]")
    assert page.run("seen.text") == TEXT and page.run("seen.opens") == 1


def test_an_event_source_whose_connection_is_cut_reconnects_by_itself(page, cutter, open_relay, open_key, mock):
    pace = mock.pace()
    case = mock.case(behaviour.stream(*WORDS, pace=pace))
    pace.release(4)
    page.run(f"listen({source_url(cutter, open_key, case.prompt)})")
    page.until("seen.ids.length === 4", "four events")
    cutter.cut()
    page.until("seen.state === EventSource.CONNECTING", "the loss")
    pace.open()
    page.until("seen.done", "[DONE]")
    seen = page.run("seen")
    identity = seen["ids"][0].rsplit(":", 1)[0]
    assert seen["text"] == TEXT and seen["opens"] == 2 and case.count == 1
    assert seen["ids"] == [f"{identity}:{number}" for number in range(1, len(seen["ids"]) + 1)]
    assert open_relay.record(identity)["attempts"] == 1


def test_an_event_source_that_does_not_close_itself_starts_no_second_completion(page, open_relay, open_key, mock):
    """At the end the browser asks again, gets 204, and stays closed."""
    case = mock.case(behaviour.stream("a"))
    page.run(f"void ((source) => {{ source.onmessage = ({{data, lastEventId}}) => take(data, lastEventId); "
             f"source.onerror = () => seen.state = source.readyState; }})(new EventSource({source_url(open_relay, open_key, case.prompt)}))")
    page.until("seen.done && seen.state === EventSource.CLOSED", "the end for good")
    assert page.run("seen.text") == "a" and case.count == 1


@pytest.mark.parametrize("way", ["subprotocol", "openai subprotocol", "query"])
def test_a_websocket_streams(page, open_relay, open_key, mock, way):
    case = mock.case(behaviour.stream(*WORDS))
    protocols = {"subprotocol": ["tollgate", f"tollgate.{open_key}"], "query": [],
                 "openai subprotocol": ["realtime", f"openai-insecure-api-key.{open_key}"]}[way]
    page.run(talking(open_relay, open_key, case, protocols, f"?api_key={open_key}" if way == "query" else ""))
    page.until("seen.closed", "the end")
    seen = page.run("seen")
    assert seen["text"] == TEXT and seen["closed"] in (1000, 1005) and seen["messages"][-1]["usage"]["completion_tokens"] == len(WORDS)
    assert seen["protocol"] == (protocols[0] if protocols else "")


def test_a_websocket_that_the_page_closes_cancels_the_upstream(page, open_relay, open_key, mock):
    case = mock.case(behaviour.stream("a", "b", ending="stall"))
    page.run(talking(open_relay, open_key, case, ["tollgate", f"tollgate.{open_key}"]))
    page.until("seen.text === 'ab'", "both words")
    page.call("goto", "about:blank")
    until(lambda: case.last.client_left, "the relay's hanging up")


# --- what is not ---

@pytest.fixture
def foreign_page(visit, other_site):
    return visit(f"{other_site.origin}/")


def test_pages_of_other_origins_can_send_nothing(foreign_page, open_relay, open_key, mock):
    case = mock.case(behaviour.chat())
    assert foreign_page.run(f"outcome({fetching(open_relay, open_key, case.body())})") == "TypeError"
    assert foreign_page.run(f"outcome(fetch('{at(open_relay)}/v1/models?api_key={open_key}'))") == "TypeError"
    foreign_page.run(talking(open_relay, open_key, case, query=f"?api_key={open_key}"))
    foreign_page.until("seen.closed === 1006", "the upgrade's refusal")
    assert foreign_page.run("seen.opens") == 0 and case.count == 0


def test_pages_of_other_origins_can_read_no_event_source(foreign_page, open_relay, open_key, mock):
    case = mock.case(behaviour.stream("a"))
    foreign_page.run(f"listen({source_url(open_relay, open_key, case.prompt)})")
    foreign_page.until("seen.state === EventSource.CLOSED", "the browser's refusal")
    assert foreign_page.run("[seen.opens, seen.text]") == [0, ""]


def test_the_websocket_of_another_origin_is_refused_with_403(open_relay, open_key, other_site):
    headers = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13",
               "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==", "origin": other_site.origin}
    assert open_relay.get(f"/v1/ws/chat?api_key={open_key}", headers=headers).status == 403


def test_without_cors_no_page_is_let_in(visit, relay, key, site, mock):
    case = mock.case(behaviour.stream("a"))
    assert visit(f"{site.origin}/").run(f"outcome({fetching(relay, key, case.body())})") == "TypeError"
    assert case.count == 0


def test_with_a_star_every_page_is(visit, own_relay, site, other_site, mock):
    case = mock.case(behaviour.stream("a"))
    relay = own_relay({"cors": {"origins": ["*"]}})
    key = relay.create_key(relay.create_tenant("stars"))
    for place in (site, other_site):
        page = visit(f"{place.origin}/")
        assert page.run(f"{fetching(relay, key, case.body())}.then(read)")["text"] == "a"
        page.run("seen.text = ''")
        page.run(talking(relay, key, case, ["tollgate", f"tollgate.{key}"]))
        page.until("seen.closed", "the end")
        assert page.run("seen.text") == "a"


# --- the playground ---

TRANSPORTS = ["fetch", "eventsource", "websocket"]


class Playground:
    """The playground's page, as a person uses it."""

    def __init__(self, page):
        self.page = page

    def __getattr__(self, name):
        return getattr(self.page, name)

    def choose(self, key, transport, prompt, model="test-model"):
        self.call("fill", "#key", key)
        self.call("press", "#key", "Tab")
        self.until(f"[...document.querySelectorAll('#model option')].some((one) => one.value === '{model}')", "the key's models")
        self.call("selectOption", "#model", model)
        self.call("selectOption", "#transport", transport)
        self.call("fill", "#prompt", prompt)

    def click(self, name):
        self.call("click", f"#{name}")

    def until_state(self, state):
        self.until(f"document.getElementById('state').textContent === {json.dumps(state)}", state)

    def until_text(self, text):
        self.until(f"document.getElementById('answer').textContent === {json.dumps(text)}", "the text")

    @property
    def answer(self):
        return self.text("#answer")

    @property
    def detail(self):
        return self.text("#detail")

    @property
    def numbers(self):
        return {name: self.text(f"#{name}") for name in ("first-token", "rate", "tokens", "cost", "request")}


@pytest.fixture
def playground(visit, open_relay):
    page = visit(f"http://127.0.0.1:{open_relay.admin_port}/playground")
    page.until("document.getElementById('base').value !== ''", "the relay's address")
    assert page.call("inputValue", "#base") == at(open_relay)
    return Playground(page)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_playground_streams(playground, open_relay, open_key, mock, transport):
    pace = mock.pace()
    case = mock.case(behaviour.stream(*WORDS, pace=pace))
    playground.choose(open_key, transport, case.prompt)
    pace.release(3)
    playground.call("press", "#prompt", "Control+Enter")
    playground.until_text("".join(WORDS[:3]))
    playground.until_state("Streaming")
    pace.open()
    playground.until_state("Done")
    numbers = playground.numbers
    record = open_relay.record(numbers["request"])
    assert playground.answer == TEXT and "finish reason stop" in playground.detail
    assert numbers["tokens"] == f"{record['input_tokens']} in, {record['output_tokens']} out"
    assert float(numbers["cost"].removeprefix("$")) == float(record["price_usd"]) > 0
    assert numbers["first-token"].endswith("s") and float(numbers["rate"]) > 0
    assert playground.call("isDisabled", "#stop") and playground.call("isDisabled", "#reconnect")


def test_the_playground_with_the_demo(playground, open_relay, open_key):
    """What a newcomer does after ./dev run."""
    playground.choose(open_key, "fetch", "Hello there", "demo")
    playground.click("send")
    playground.until("document.getElementById('answer').textContent.includes('Hello there')", "the demo's quoting")
    playground.click("stop")
    playground.until_state("Stopped")
    assert not playground.call("isDisabled", "#reconnect") and not playground.call("isDisabled", "#send")


@pytest.mark.parametrize("transport", ["fetch", "websocket"])
def test_stop_cancels_the_upstream(playground, open_key, mock, transport):
    case = mock.case(behaviour.stream("a", "b", ending="stall"))
    playground.choose(open_key, transport, case.prompt)
    playground.call("uncheck", "#resumable")
    playground.click("send")
    playground.until_text("ab")
    playground.call("keyboard.press", "Escape")
    playground.until_state("Stopped")
    until(lambda: case.last.client_left, "the relay's hanging up")
    assert playground.call("isDisabled", "#reconnect") and playground.text("#reconnect-note")


@pytest.fixture(scope="module")
def resumes_sockets(open_relay, open_key, mock):
    """Can this relay's completions over WebSockets be resumed?"""
    case = mock.case(behaviour.stream("a"))
    with WebSocket(open_relay.port, "/v1/ws/chat?resume=1", open_key) as socket:
        socket.complete(case.body())
        return socket.receive()["type"] == "completion.started"


@pytest.mark.parametrize("transport", ["fetch", "eventsource"])
def test_stop_and_reconnect(playground, open_relay, open_key, mock, transport):
    pace = mock.pace()
    case = mock.case(behaviour.stream(*WORDS, pace=pace))
    playground.choose(open_key, transport, case.prompt)
    pace.release(4)
    playground.click("send")
    playground.until_text("".join(WORDS[:4]))
    playground.click("stop")
    playground.until_state("Stopped")
    pace.release(3)
    playground.click("reconnect")
    playground.until_text("".join(WORDS[:7]))
    playground.click("reconnect")  # also while it streams
    pace.open()
    playground.until_state("Done")
    assert playground.answer == TEXT and case.count == 1
    assert open_relay.record(playground.numbers["request"])["output_tokens"] == len(WORDS)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_lost_connection(playground, cutter, open_key, mock, resumes_sockets, transport):
    pace = mock.pace()
    case = mock.case(behaviour.stream(*WORDS, pace=pace))
    playground.call("fill", "#base", at(cutter))
    playground.choose(open_key, transport, case.prompt)
    pace.release(4)
    playground.click("send")
    playground.until_text("".join(WORDS[:4]))
    cutter.cut()
    if transport == "websocket" and not resumes_sockets:
        playground.until_state("Connection lost")
        assert playground.call("isDisabled", "#reconnect")
        until(lambda: case.last.client_left, "the relay's hanging up")
        return
    playground.until_state("Reconnecting" if transport == "eventsource" else "Connection lost")
    pace.open()
    if transport != "eventsource":
        playground.click("reconnect")
    playground.until_state("Done")
    assert playground.answer == TEXT and case.count == 1


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_an_upstream_that_fails_is_told(playground, open_key, mock, transport):
    case = mock.case(behaviour.status(400) if transport == "fetch" else behaviour.stream("a", ending="close"))
    playground.choose(open_key, transport, case.prompt)
    playground.click("send")
    playground.until_state("Failed")
    assert playground.detail.removeprefix("HTTP ")[4:].strip(": ")
    assert ("400" in playground.detail) == (transport == "fetch")


def test_a_wrong_key_is_told(playground, open_relay, open_key):
    playground.call("fill", "#key", "sk-wrong")
    playground.call("press", "#key", "Tab")
    playground.until_state("No models")
    assert "401" in playground.detail
    gone = open_relay.create_key("pages")
    for transport in TRANSPORTS:
        playground.choose(gone if transport == "fetch" else open_key, transport, "hello")
        if transport == "fetch":
            open_relay.ok("key", "revoke", gone)
        else:
            playground.run(f"document.getElementById('key').value = '{gone}'")
        playground.click("send")
        playground.until_state("Failed")
        assert "401" in playground.detail, (transport, playground.detail)


def test_what_to_configure_is_told(visit, own_relay):
    relay = own_relay()
    key = relay.create_key(relay.create_tenant("blocked"))
    origin = f"http://127.0.0.1:{relay.admin_port}"
    page = visit(f"{origin}/playground")
    page.call("fill", "#key", key)
    page.call("press", "#key", "Tab")
    page.until("document.getElementById('detail').textContent.includes('cors.origins')", "the advice")
    assert f'"{origin}"' in page.text("#detail")
    page.call("fill", "#base", f"http://127.0.0.1:{free_port()}")
    page.call("press", "#base", "Tab")
    page.until("document.getElementById('detail').textContent.includes('Nobody answers')", "the other advice")


def test_the_key_is_kept_nowhere(playground, open_key, mock):
    case = mock.case(behaviour.stream("a"))
    playground.choose(open_key, "eventsource", case.prompt)
    playground.click("send")
    playground.until_state("Done")
    kept = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href, document.documentElement.outerHTML])"
    assert open_key not in playground.run(kept)
    playground.call("reload")
    assert playground.call("inputValue", "#key") == ""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_playground_by_keyboard_and_in_both_schemes(chromium, open_relay, open_key, mock, scheme, tmp_path):
    with chromium.open(f"http://127.0.0.1:{open_relay.admin_port}/playground", colorScheme=scheme,
                       viewport={"width": 1200, "height": 900}) as opened:
        page = Playground(opened)
        page.choose(open_key, "fetch", mock.case(behaviour.stream(*WORDS)).prompt)
        page.call("focus", "#base")
        order = []
        for _ in range(7):
            order.append(page.run("document.activeElement.id"))
            page.call("keyboard.press", "Tab")
        assert order == ["base", "key", "model", "transport", "resumable", "prompt", "send"]
        page.call("press", "#send", "Enter")
        page.until_state("Done")
        unnamed = page.run("[...document.querySelectorAll('input, select, textarea')].filter((one) => !one.labels.length).map((one) => one.id)")
        assert unnamed == [] and page.run("document.getElementById('status').getAttribute('aria-live')") == "polite"
        assert page.run("document.getElementById('answer').getAttribute('aria-busy')") == "false"
        assert page.run(CONTRAST) >= 4.5
        page.call("screenshot", {"path": str(tmp_path / f"playground-{scheme}.png"), "fullPage": True})


# The contrast of the answer's text and its panel (WCAG 2).
CONTRAST = """(() => {
  const light = (color) => color.match(/[0-9.]+/g).slice(0, 3).map((part) => part / 255)
    .map((part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
  const answer = document.getElementById("answer");
  const both = [light(getComputedStyle(answer).color), light(getComputedStyle(answer.closest(".panel")).backgroundColor)].sort((a, b) => b - a);
  return (both[0] + 0.05) / (both[1] + 0.05);
})()"""
