"use strict";
// The playground: one completion at a time from this page to the relay's public address, over fetch, EventSource or WebSocket.
// That address is another origin, so the relay's cors.origins must name this page's. The key is kept in its input alone.

const byId = (id) => document.getElementById(id);
const count = new Intl.NumberFormat();

// --- reading server-sent events ---

// Text in, events out: onEvent({data, id}). Comments and fields that nobody here needs are dropped.
class EventReader {
  constructor(onEvent) {
    this.onEvent = onEvent;
    this.rest = "";
    this.data = [];
    this.id = null;
  }

  push(text) {
    const lines = (this.rest + text).split("\n");
    this.rest = lines.pop();
    for (const line of lines) this.take(line.replace(/\r$/, ""));
  }

  take(line) {
    if (line === "") {
      if (this.data.length) this.onEvent({ data: this.data.join("\n"), id: this.id });
      this.data = [];
      this.id = null;
      return;
    }
    const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line);
    if (name === "data") this.data.push(value);
    else if (name === "id") this.id = value;
  }
}

// --- a run: one completion, over however many connections ---

class Run {
  constructor(fields) {
    Object.assign(this, fields);
    this.startedAt = performance.now();
    this.firstAt = this.lastAt = this.usage = this.connection = this.http = null;
    this.requestId = this.lastEventId = this.finishReason = "";
    this.socketPlace = this.pieces = 0;
    this.isStarted = false; // a WebSocket's completion that can be resumed
    this.phase = "connecting"; // connecting | streaming | reconnecting | stopped | lost | done | failed
    this.detail = "";
  }

  get isLive() { return ["connecting", "streaming", "reconnecting"].includes(this.phase); }

  enter(phase, detail = "") {
    this.phase = phase;
    this.detail = detail;
    show();
  }

  text(piece, isReasoning = false) {
    if (!piece) return;
    this.lastAt = performance.now();
    this.firstAt ??= this.lastAt;
    this.pieces += 1;
    (isReasoning ? reasoning : answer).append(piece);
    if (this.phase !== "streaming") this.enter("streaming");
    else showSoon();
  }

  // An event's place in the stream, REQUEST_ID:N.
  place(id) {
    if (!id) return;
    this.lastEventId = id;
    this.requestId = id.slice(0, id.lastIndexOf(":"));
  }

  // A chat-completions chunk, "[DONE]" or an error. True: it was the last.
  chunk(data) {
    if (data === "[DONE]") {
      this.end();
      return true;
    }
    const chunk = JSON.parse(data);
    if (chunk.error) {
      this.fail(chunk.error.message);
      return true;
    }
    if (chunk.usage) this.usage = chunk.usage;
    const choice = chunk.choices?.[0];
    this.text(choice?.delta?.reasoning_content ?? choice?.delta?.reasoning, true);
    this.text(choice?.delta?.content);
    if (choice?.finish_reason) this.finishReason = choice.finish_reason;
    return false;
  }

  end() { this.close("done", this.finishReason ? `finish reason ${this.finishReason}` : ""); }
  fail(message) { this.close("failed", message || "The stream ended with an error."); }
  lose(message) { this.close("lost", message); }

  close(phase, detail) {
    this.hangUp();
    this.enter(phase, detail);
  }

  // The reason takes a while to find out; what happens meanwhile counts more.
  async closeWith(isCurrent, phase, reason) {
    const detail = await reason;
    if (isCurrent()) this.close(phase, detail);
  }

  // What the connection says after this is not heard any more.
  hangUp() {
    const connection = this.connection;
    this.connection = null;
    connection?.close();
  }

  // Opens a connection: open(isCurrent) starts it and returns {close()}.
  connect(phase, open) {
    this.hangUp();
    const connection = {};
    this.connection = connection;
    this.enter(phase);
    Object.assign(connection, open(() => this.connection === connection));
  }
}

// --- the transports: start(run), stop(run), and reconnect(run) where whyNoReconnect(run) finds nothing against it ---

const READS_ON = "The relay reads the answer to its end and bills it; Reconnect fetches the rest.";
const CANCELS = "The relay cancels the upstream; what was sent is billed.";

function noReconnect(run) {
  if (run.phase === "done") return "The answer is complete.";
  if (run.phase === "failed") return "There is nothing to resume: send it again.";
  return run.requestId ? "" : "Nothing has arrived that could be resumed.";
}

async function errorOf(response) {
  const text = await response.text();
  try {
    const { error } = JSON.parse(text);
    return error.message;
  } catch {
    return `The relay answered ${response.status}.`;
  }
}

async function readStream(run, response, isCurrent) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  const events = new EventReader(({ data, id }) => {
    if (!isCurrent()) return;
    run.place(id);
    run.chunk(data);
  });
  for (;;) {
    const { value, done } = await reader.read();
    if (done || !isCurrent()) return;
    events.push(decoder.decode(value, { stream: true }));
  }
}

async function runFetch(run, target, options, isCurrent) {
  let response = null;
  try {
    response = await fetch(run.base + target, options);
    if (!isCurrent()) return;
    run.requestId = response.headers.get("x-request-id") || run.requestId;
    run.http = response.status;
    if (response.status === 204) return run.end();
    if (!response.ok) return run.closeWith(isCurrent, "failed", errorOf(response));
    await readStream(run, response, isCurrent);
    if (isCurrent()) run.lose("The stream broke off.");
  } catch (error) {
    if (!isCurrent()) return;
    if (response) run.lose("");
    else run.closeWith(isCurrent, run.requestId ? "lost" : "failed", whyBlocked(run.base));
  }
}

function openFetch(run, target, headers, body) {
  return (isCurrent) => {
    const aborter = new AbortController();
    const options = { method: body ? "POST" : "GET", body, signal: aborter.signal, cache: "no-store",
      headers: { authorization: `Bearer ${run.key}`, ...headers } };
    runFetch(run, target, options, isCurrent);
    return { close: () => aborter.abort() };
  };
}

const messagesOf = (run) => [{ role: "user", content: run.prompt }];

const overFetch = {
  start(run) {
    const headers = { "content-type": "application/json", ...(run.isResumable ? { "x-tollgate-resume": "1" } : {}) };
    const body = { model: run.model, messages: messagesOf(run), stream: true, stream_options: { include_usage: true } };
    run.connect("connecting", openFetch(run, "/v1/chat/completions", headers, JSON.stringify(body)));
  },
  stop(run) { run.close("stopped", run.isResumable ? READS_ON : CANCELS); },
  reconnect(run) {
    const headers = run.lastEventId ? { "last-event-id": run.lastEventId } : {};
    run.connect("reconnecting", openFetch(run, `/v1/streams/${encodeURIComponent(run.requestId)}`, headers));
  },
  whyNoReconnect: (run) => (run.isResumable ? noReconnect(run) : "The request was not resumable."),
};

function openEventSource(run) {
  return (isCurrent) => {
    const query = new URLSearchParams({ model: run.model, prompt: run.prompt, include_usage: "true", api_key: run.key,
      ...(run.lastEventId ? { last_event_id: run.lastEventId } : {}) });
    const source = new EventSource(`${run.base}/v1/stream?${query}`);
    source.onmessage = ({ data, lastEventId }) => {
      if (!isCurrent()) return;
      run.place(lastEventId);
      run.chunk(data);
    };
    source.onopen = () => { run.http = 200; };
    source.onerror = () => {
      if (!isCurrent()) return;
      if (source.readyState === EventSource.CONNECTING && run.lastEventId) return run.enter("reconnecting", "The browser reconnects by itself.");
      source.close(); // else, without an event to come back to, the browser would ask for a second completion
      run.closeWith(isCurrent, run.lastEventId ? "lost" : "failed", whyRefused(run));
    };
    return { close: () => source.close() };
  };
}

const overEventSource = {
  start(run) { run.connect("connecting", openEventSource(run)); },
  stop(run) { run.close("stopped", READS_ON); },
  reconnect(run) { run.connect("reconnecting", openEventSource(run)); },
  whyNoReconnect: noReconnect,
};

const socketMessages = {
  "completion.started": (run, message) => { run.isStarted = true; run.requestId = message.request_id; },
  "content.delta": (run, message) => run.text(message.delta),
  "reasoning.delta": (run, message) => run.text(message.delta, true),
  "completion.done": (run, message) => {
    run.usage = message.usage;
    run.finishReason = message.finish_reason || "";
    if (run.finishReason === "cancelled") run.close("stopped", CANCELS);
    else run.end();
  },
  error: (run, message) => run.fail(message.error.message),
};

function openWebSocket(run, ...firstMessage) {
  return (isCurrent) => {
    const target = `${run.base.replace(/^http/, "ws")}/v1/ws/chat${run.isResumable ? "?resume=1" : ""}`;
    const socket = new WebSocket(target, ["tollgate", `tollgate.${run.key}`]);
    let isOpen = false;
    const say = (message) => {
      if (isOpen) socket.send(JSON.stringify(message));
      return isOpen;
    };
    socket.onopen = () => {
      isOpen = true;
      run.http = 101;
      firstMessage.forEach(say);
    };
    socket.onmessage = ({ data }) => {
      if (!isCurrent()) return;
      const message = JSON.parse(data);
      run.requestId ||= message.id || "";
      run.socketPlace = message.n ?? run.socketPlace;
      socketMessages[message.type]?.(run, message);
    };
    socket.onclose = ({ code }) => {
      if (!isCurrent()) return;
      if (isOpen) run.lose(`The socket was closed (${code}).`);
      else run.closeWith(isCurrent, run.isStarted ? "lost" : "failed", whyRefused(run));
    };
    return { close: () => socket.close(), say };
  };
}

const overWebSocket = {
  start(run) {
    const { model } = run;
    run.connect("connecting", openWebSocket(run, { type: "chat.completion", model, messages: messagesOf(run) }));
  },
  stop(run) {
    const isTold = run.requestId && run.connection.say({ type: "cancel", id: run.requestId });
    if (!isTold) run.close("stopped", run.isStarted ? READS_ON : "");
  },
  reconnect(run) {
    run.connect("reconnecting", openWebSocket(run, { type: "resume", id: run.requestId, after: run.socketPlace }));
  },
  whyNoReconnect(run) {
    if (run.finishReason === "cancelled") return "It was cancelled.";
    return run.isStarted ? noReconnect(run) : "The completion is not resumable: it ends with its socket.";
  },
};

const transports = { fetch: overFetch, eventsource: overEventSource, websocket: overWebSocket };

// --- why something did not work ---

// Browsers tell pages nothing about what CORS keeps from them; a request that asks for no answer still tells whether anybody is there.
async function whyBlocked(base) {
  try {
    await fetch(`${base}/healthz`, { mode: "no-cors", cache: "no-store" });
    return `The relay is there, but lets no page of ${location.origin} call it: add "${location.origin}" to cors.origins in its configuration and reload it.`;
  } catch {
    return `Nobody answers at ${base}.`;
  }
}

// EventSource and WebSocket hide the relay's error; another request with the same key and model mostly meets the same one.
async function whyRefused(run) {
  try {
    const response = await fetch(`${run.base}/v1/models/${encodeURIComponent(run.model)}`, { headers: { authorization: `Bearer ${run.key}` } });
    if (!response.ok) return `HTTP ${response.status}: ${await errorOf(response)}`;
    return "The relay refused, and browsers do not say why with this transport: send it with fetch to see.";
  } catch {
    return whyBlocked(run.base);
  }
}

// --- the page ---

const answer = byId("answer");
const reasoning = byId("reasoning");
let run = null;
let isShowing = false;

const phases = {
  connecting: ["Connecting", "warn"], streaming: ["Streaming", "good"], reconnecting: ["Reconnecting", "warn"],
  stopped: ["Stopped", "warn"], lost: ["Connection lost", "bad"], done: ["Done", "good"], failed: ["Failed", "bad"],
};

function setText(id, text) {
  if (byId(id).textContent !== text) byId(id).textContent = text;
}

const duration = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`);

function showNumbers() {
  const output = run.usage?.completion_tokens ?? run.pieces;
  const seconds = (run.lastAt - run.firstAt) / 1000;
  setText("first-token", run.firstAt === null ? "–" : duration(run.firstAt - run.startedAt));
  setText("rate", run.firstAt !== null && seconds > 0 ? (output / seconds).toFixed(1) : "–");
  if (run.usage) setText("tokens", `${count.format(run.usage.prompt_tokens)} in, ${count.format(output)} out`);
  else setText("tokens", run.pieces ? `about ${count.format(output)} out` : "–");
  setText("cost", typeof run.usage?.cost === "number" ? `$${run.usage.cost.toFixed(9).replace(/0{1,7}$/, "")}` : "–");
  setText("request", run.requestId || "–");
  byId("reasoning-part").hidden = !reasoning.textContent;
}

// Streams bring many pieces a frame; the numbers are drawn once.
function showSoon() {
  if (isShowing) return;
  isShowing = true;
  requestAnimationFrame(() => { isShowing = false; showNumbers(); });
}

function show() {
  const [name, kind] = phases[run.phase];
  const why = run.phase === "connecting" ? "Nothing has arrived that could be resumed." : transports[run.transport].whyNoReconnect(run);
  byId("state").className = `state ${kind}`;
  setText("state", name);
  setText("detail", [run.http && `HTTP ${run.http}`, run.detail].filter(Boolean).join(": "));
  byId("status").classList.toggle("problem", kind === "bad");
  byId("stop").disabled = !run.isLive;
  byId("send").disabled = run.isLive;
  byId("reconnect").disabled = why !== "";
  setText("reconnect-note", run.isLive ? "" : why);
  answer.setAttribute("aria-busy", String(run.isLive));
  showNumbers();
}

const baseOf = () => byId("base").value.trim().replace(/\/+$/, "").replace(/\/v1$/, "");

function send() {
  if (run?.isLive) return;
  answer.replaceChildren();
  reasoning.replaceChildren();
  run = new Run({ base: baseOf(), key: byId("key").value.trim(), model: byId("model").value, prompt: byId("prompt").value,
    transport: byId("transport").value, isResumable: byId("resumable").checked });
  try {
    transports[run.transport].start(run);
  } catch (error) {
    run.fail(`This cannot be sent: ${error.message}`); // an address or a key no URL or header can carry
  }
}

function stop() {
  if (run?.isLive) transports[run.transport].stop(run);
}

// What an EventSource asks for is always resumable.
function showTransport() {
  const isEventSource = byId("transport").value === "eventsource";
  byId("resumable").disabled = isEventSource;
  byId("resumable").checked ||= isEventSource;
}

function setModels(names, none) {
  const before = byId("model").value;
  byId("model").replaceChildren(...names.map((name) => new Option(name, name)), ...(names.length ? [] : [new Option(none, "")]));
  if (names.includes(before)) byId("model").value = before;
}

let listing = 0;

async function loadModels() {
  const mine = ++listing;
  const key = byId("key").value.trim();
  if (!key || !baseOf()) return setModels([], "enter a key first");
  let names = [], problem = "";
  try {
    const response = await fetch(`${baseOf()}/v1/models`, { headers: { authorization: `Bearer ${key}` } });
    if (response.ok) names = (await response.json()).data.map((model) => model.id);
    else problem = `HTTP ${response.status}: ${await errorOf(response)}`;
  } catch {
    problem = await whyBlocked(baseOf());
  }
  if (mine !== listing) return;
  setModels(names, problem ? "none" : "this key may use none");
  if (run?.isLive) return;
  byId("state").className = `state ${problem ? "bad" : ""}`;
  setText("state", problem ? "No models" : "Ready");
  setText("detail", problem);
  byId("status").classList.toggle("problem", problem !== "");
}

// Where the relay listens, as seen from the machine that shows this page.
async function findRelay() {
  const { listen } = await (await fetch("/playground.json")).json();
  const place = listen.find((one) => !one.tls) || listen[0];
  if (!place || byId("base").value) return;
  const isAny = ["0.0.0.0", "::", "[::]", "*", ""].includes(place.host);
  const host = isAny ? location.hostname : place.host.includes(":") && !place.host.startsWith("[") ? `[${place.host}]` : place.host;
  byId("base").value = `${place.tls ? "https" : "http"}://${host}:${place.port}`;
}

byId("form").addEventListener("submit", (event) => { event.preventDefault(); send(); });
byId("stop").addEventListener("click", stop);
byId("reconnect").addEventListener("click", () => transports[run.transport].reconnect(run));
byId("transport").addEventListener("change", showTransport);
byId("key").addEventListener("change", loadModels);
byId("base").addEventListener("change", loadModels);
byId("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) byId("form").requestSubmit();
});
addEventListener("keydown", (event) => { if (event.key === "Escape") stop(); });
findRelay().catch(() => {}).then(loadModels);
