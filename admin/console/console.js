"use strict";
// The console: one page over the admin API. Nothing is loaded from elsewhere; the token stays in this tab's sessionStorage.

const byId = (id) => document.getElementById(id);
const TOKEN = "tollgate-admin-token";
const POLL_MS = 5000;

// --- talking to the server ---

class ApiError extends Error {
  constructor(status, error) {
    super(error.message || `The server answered ${status}.`);
    this.status = status;
  }
}

async function api(method, path, body) {
  const headers = {};
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.authorization = `Bearer ${token}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new ApiError(0, { message: "The server cannot be reached." });
  }
  const answer = await response.json().catch(() => ({}));
  if (response.status === 401) askForToken(token ? answer.error?.message : "");
  if (!response.ok) throw new ApiError(response.status, answer.error || {});
  return answer;
}

function query(fields) {
  const given = Object.entries(fields).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return given.length ? `?${new URLSearchParams(given)}` : "";
}

// --- small helpers ---

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const count = new Intl.NumberFormat();
const short = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });
const number = (value) => count.format(value);
const usd = (value) => (value === null || value === undefined ? "–" : `$${Number(value).toLocaleString(undefined,
  { minimumFractionDigits: 2, maximumFractionDigits: Math.abs(value) < 1 && value !== 0 ? 6 : 2 })}`);
const tokens = (row) => row.input_tokens + row.output_tokens;
const time = (text) => (text ? new Date(text).toLocaleString(undefined, { dateStyle: "short", timeStyle: "medium" }) : "–");
const millis = (from, to) => (from && to ? new Date(to) - new Date(from) : null);
const duration = (ms) => (ms === null ? "–" : ms < 1000 ? `${ms} ms` : `${(ms / 1000).toFixed(1)} s`);

function span(seconds) {
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86400)} d`;
}

let failing = false;

function notice(text, isProblem = false) {
  failing = isProblem;
  byId("notice").textContent = text;
  byId("notice").classList.toggle("problem", isProblem);
}

function state(text) {
  const kind = { active: "good", up: "good", down: "bad", disabled: "warn", probing: "warn", expired: "warn", revoked: "bad" }[text];
  return element("span", { className: `state ${kind || ""}` }, text);
}

// columns: {title, value(row) -> text or node, number}
function table(caption, columns, rows, { total, empty = "Nothing yet." } = {}) {
  if (!rows.length && !total) return element("p", { className: "empty" }, empty);
  const cell = (tag, column, content) => element(tag, { className: column.number ? "number" : "" }, content ?? "–");
  const line = (row, isTotal) => element("tr", {}, ...columns.map((column, at) => {
    const made = cell(at === 0 ? "th" : "td", column, isTotal && at === 0 ? "total" : isTotal && column.label ? "" : column.value(row));
    if (at === 0) made.scope = "row";
    return made;
  }));
  const head = element("tr", {}, ...columns.map((column) => {
    const made = cell("th", column, column.title);
    made.scope = "col";
    return made;
  }));
  return element("table", {}, element("caption", {}, caption), element("thead", {}, head),
    element("tbody", {}, ...rows.map((row) => line(row, false))),
    total ? element("tfoot", {}, line(total, true)) : null);
}

function confirmed(text, action) {
  const dialog = byId("confirm-dialog");
  byId("confirm-text").textContent = text;
  byId("confirm-yes").textContent = action;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

function showSecret(secret) {
  byId("secret").textContent = secret;
  byId("secret-copy").textContent = "Copy";
  byId("secret-dialog").showModal();
}

// --- the token ---

function askForToken(problem) {
  const dialog = byId("token-dialog");
  byId("token-problem").textContent = problem || "";
  if (!dialog.open) dialog.showModal();
}

byId("token-form").addEventListener("submit", () => {
  sessionStorage.setItem(TOKEN, byId("token").value.trim());
  byId("token").value = "";
  refresh();
});

byId("sign-out").addEventListener("click", () => {
  sessionStorage.removeItem(TOKEN);
  location.reload();
});

byId("secret-close").addEventListener("click", () => byId("secret-dialog").close());
byId("secret-dialog").addEventListener("close", () => { byId("secret").textContent = ""; });
byId("secret-copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(byId("secret").textContent);
    byId("secret-copy").textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(byId("secret"));
  }
});

// --- requests, on two pages ---

const requestColumns = [
  { title: "Ended", value: (row) => time(row.end) },
  { title: "Tenant", value: (row) => row.tenant },
  { title: "Model", value: (row) => row.model_served },
  { title: "Upstream", value: (row) => row.upstream },
  { title: "Status", number: true, value: (row) => element("span", { className: row.status >= 400 ? "bad-text" : "" }, String(row.status)) },
  { title: "First byte", number: true, value: (row) => duration(millis(row.start, row.first_byte)) },
  { title: "In all", number: true, value: (row) => duration(millis(row.start, row.end)) },
  { title: "Input", number: true, value: (row) => number(row.input_tokens) },
  { title: "Output", number: true, value: (row) => number(row.output_tokens) + (row.estimated ? " est." : "") },
  { title: "Price", number: true, value: (row) => usd(row.price_usd) },
];
const requestIdColumn = { title: "Id", value: (row) => element("code", {}, row.id) };

// --- overview ---

let days = [];

// All days up to today, those without requests as zeros.
function fillDays(report) {
  const found = new Map(report.rows.map((row) => [row.day, row]));
  const end = new Date(`${report.to.slice(0, 10)}T00:00:00Z`);
  return Array.from({ length: 30 }, (_, at) => {
    const day = new Date(end - (29 - at) * 86400000).toISOString().slice(0, 10);
    return found.get(day) || { day, requests: 0, failed: 0, input_tokens: 0, output_tokens: 0, price_usd: 0, cost_usd: 0 };
  });
}

function card(title, value, detail) {
  return element("div", {}, element("dt", {}, title), element("dd", {}, value, element("small", {}, detail)));
}

function percentile(sorted, share) {
  return sorted.length ? sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] : null;
}

function showCards(today, latest, status) {
  const waits = latest.map((row) => millis(row.start, row.first_byte)).filter((ms) => ms !== null).sort((a, b) => a - b);
  const streams = status.workers.reduce((sum, worker) => sum + worker.streams, 0);
  byId("cards").replaceChildren(
    card("Requests today", number(today.requests), `${number(today.failed)} failed`),
    card("Tokens today", short.format(tokens(today)), `${short.format(today.input_tokens)} in, ${short.format(today.output_tokens)} out`),
    card("Tenants owe, today", usd(today.price_usd), `upstreams charge ${usd(today.cost_usd)}`),
    card("First byte, median", duration(percentile(waits, 0.5)), `95th percentile ${duration(percentile(waits, 0.95))}, last ${waits.length}`),
    card("Open now", number(streams), `${status.workers.length} workers, ledger ${number(status.ledger.lag_records)} behind`));
}

function svg(tag, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function drawChart() {
  const select = byId("chart-measure");
  const title = select.selectedOptions[0].textContent;
  const read = (row) => (select.value === "tokens" ? tokens(row) : row[select.value]);
  const show = (value) => (select.value.endsWith("usd") ? usd(value) : short.format(value));
  const width = Math.max(320, byId("chart").clientWidth || 900), height = 190, bottom = 22, top = 18;
  const most = Math.max(...days.map(read), 0);
  const step = width / days.length;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title} by day; the numbers are in the table below` });
  picture.append(svg("line", { x1: 0, x2: width, y1: height - bottom, y2: height - bottom }), svg("text", { x: 0, y: 11 }, most ? `most: ${show(most)}` : "no requests yet"));
  days.forEach((row, at) => {
    const tall = most ? (read(row) / most) * (height - bottom - top) : 0;
    const bar = svg("rect", { x: at * step + step * 0.12, width: step * 0.76, y: height - bottom - tall, height: tall, rx: Math.min(3, tall / 2) });
    bar.append(svg("title", {}, `${row.day}: ${show(read(row))}`));
    if (at === days.length - 1) bar.setAttribute("class", "now");
    picture.append(bar);
    if (at % 7 === days.length % 7) picture.append(svg("text", { x: at * step, y: height - 6 }, row.day.slice(5)));
  });
  byId("chart").replaceChildren(picture);
}

function showChart() {
  drawChart();
  byId("chart-table").replaceChildren(table("Usage by day", usageColumns(["day"]), [...days].reverse()));
}

async function showOverview() {
  const [status, report, page] = await Promise.all([
    showServer(), api("GET", "/admin/v1/usage?by=day&from=31d"), api("GET", "/admin/v1/requests?limit=100")]);
  days = fillDays(report);
  showCards(days[days.length - 1], page.data, status);
  showChart();
  byId("upstreams").replaceChildren(table("Upstreams", [
    { title: "Name", value: (row) => row.name }, { title: "State", value: (row) => state(row.state) },
    { title: "Errors", number: true, value: (row) => number(row.errors) }], status.upstreams));
  byId("workers").replaceChildren(table("Workers", [
    { title: "Process", value: (row) => String(row.pid) }, { title: "Up", number: true, value: (row) => span(row.uptime_s) },
    { title: "Open", number: true, value: (row) => number(row.streams) },
    { title: "Requests", number: true, value: (row) => number(row.requests) },
    { title: "Memory", number: true, value: (row) => `${Math.round(row.rss_bytes / 1048576)} MiB` }], status.workers));
  byId("latest").replaceChildren(table("Latest requests", requestColumns, page.data.slice(0, 10)));
}

async function showServer() {
  const status = await api("GET", "/admin/v1/status");
  byId("server").textContent = `version ${status.version}`;
  byId("sign-out").hidden = !sessionStorage.getItem(TOKEN);
  return status;
}

// --- usage ---

let usageReport = null;

function usageColumns(by) {
  return [
    ...by.map((name) => ({ title: name, label: true, value: (row) => row[name] })),
    { title: "Requests", number: true, value: (row) => number(row.requests) },
    { title: "Failed", number: true, value: (row) => number(row.failed) },
    { title: "Input", number: true, value: (row) => number(row.input_tokens) },
    { title: "Output", number: true, value: (row) => number(row.output_tokens) },
    { title: "Price", number: true, value: (row) => usd(row.price_usd) },
    { title: "Cost", number: true, value: (row) => usd(row.cost_usd) },
  ];
}

const fieldsOf = (form) => Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, value.trim()]));

async function showUsage() {
  usageReport = await api("GET", `/admin/v1/usage${query(fieldsOf(byId("usage-form")))}`);
  byId("usage-table").replaceChildren(table("Usage", usageColumns(usageReport.by), usageReport.rows, { total: usageReport.total }));
}

// A cell that a spreadsheet would take for a formula is made a text.
function csvCell(value) {
  const text = String(value ?? "");
  const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function downloadUsage() {
  if (!usageReport) return;
  const names = [...usageReport.by, ...Object.keys(usageReport.total)];
  const money = (name, value) => (name.endsWith("_usd") ? Number(value).toFixed(9) : value);
  const line = (row) => names.map((name) => csvCell(money(name, row[name]))).join(",");
  const total = { ...usageReport.total, [usageReport.by[0]]: "total" };
  const text = [names.map(csvCell).join(","), ...usageReport.rows.map(line), line(total), ""].join("\r\n");
  const address = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  element("a", { href: address, download: "usage.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

// --- requests ---

let requestRows = [];
let requestsNext = null;

function showRequestRows() {
  byId("requests-table").replaceChildren(table("Requests", [...requestColumns, requestIdColumn], requestRows));
  byId("requests-more").hidden = !requestsNext;
}

async function showRequests(after) {
  const page = await api("GET", `/admin/v1/requests${query({ ...fieldsOf(byId("requests-form")), limit: 50, after })}`);
  requestRows = after ? requestRows.concat(page.data) : page.data;
  requestsNext = page.next_after;
  if (after) byId("requests-live").checked = false;
  showRequestRows();
}

// --- tenants and keys ---

const limits = (row) => [row.rpm && `${number(row.rpm)} req/min`, row.tpm && `${short.format(row.tpm)} tok/min`,
  row.concurrent && `${number(row.concurrent)} at once`].filter(Boolean).join(", ") || "none";
const budgets = (row) => Object.entries(row.budgets).filter(([, value]) => value !== null)
  .map(([per, value]) => `${usd(value)} / ${per}`).join(", ") || "none";

// A list that grows page by page.
class Listing {
  constructor(name, columns) {
    this.name = name;
    this.columns = columns;
    this.rows = [];
    byId(`${name}-more`).addEventListener("click", () => attempt(() => this.load(this.next)));
  }

  async load(after) {
    const page = await api("GET", `/admin/v1/${this.name}${query({ limit: 100, after })}`);
    this.rows = after ? this.rows.concat(page.data) : page.data;
    this.next = page.next_after;
    byId(`${this.name}-table`).replaceChildren(table(this.name, this.columns, this.rows));
    byId(`${this.name}-more`).hidden = !page.has_more;
  }
}

function action(title, name, ask, run, done) {
  return element("button", { type: "button", className: "quiet", "aria-label": `${title} ${name}`, onclick: async () => {
    if (ask && !(await confirmed(ask, title))) return;
    await attempt(async () => {
      const answer = await run();
      notice(done);
      if (answer.secret) showSecret(answer.secret);
      await refresh();
    });
  } }, title);
}

function tenantActions(row) {
  const path = `/admin/v1/tenants/${encodeURIComponent(row.name)}`;
  const credit = action("Credit", row.name, null, () => addCredit(row.name), `The credit of ${row.name} is up to date.`);
  const toggle = row.state === "disabled"
    ? action("Enable", row.name, null, () => api("POST", `${path}/enable`), `${row.name} is enabled.`)
    : action("Disable", row.name, `Disable ${row.name}? All its keys are refused until it is enabled again.`,
      () => api("POST", `${path}/disable`), `${row.name} is disabled.`);
  return element("span", {}, credit, toggle);
}

// The reference makes a repeated click harmless.
async function addCredit(tenant) {
  const amount = prompt(`USD to add to ${tenant}'s credit:`);
  if (!amount) return {};
  return api("POST", "/admin/v1/credits", { tenant, usd: amount.trim(), ref: `console-${crypto.getRandomValues(new Uint32Array(2)).join("-")}` });
}

function keyActions(row) {
  if (row.state === "revoked") return "–";
  const path = `/admin/v1/keys/${encodeURIComponent(row.id)}`;
  const name = row.name || row.id;
  return element("span", {},
    action("Rotate", name, `Make a new secret for ${name}? The old one works for one more hour.`,
      () => api("POST", `${path}/rotate`, { grace: "1h" }), `${name} has a new secret; the old one works for one more hour.`),
    row.state === "disabled" ? action("Enable", name, null, () => api("POST", `${path}/enable`), `${name} is enabled.`)
      : action("Disable", name, null, () => api("POST", `${path}/disable`), `${name} is disabled.`),
    action("Revoke", name, `Revoke ${name} for good? This cannot be undone.`, () => api("DELETE", path), `${name} is revoked.`));
}

const tenants = new Listing("tenants", [
  { title: "Name", value: (row) => row.name },
  { title: "State", value: (row) => state(row.state) },
  { title: "Tier", value: (row) => row.tier },
  { title: "Limits", value: limits },
  { title: "Budget", value: budgets },
  { title: "Credit", number: true, value: (row) => usd(row.credit_usd) },
  { title: "This month", number: true, value: (row) => usd(row.spend_usd.month) },
  { title: "In all", number: true, value: (row) => usd(row.spend_usd.total) },
  { title: "Actions", value: tenantActions },
]);

const keys = new Listing("keys", [
  { title: "Name", value: (row) => row.name || "–" },
  { title: "Id", value: (row) => element("code", {}, row.id) },
  { title: "Tenant", value: (row) => row.tenant },
  { title: "State", value: (row) => state(row.state) },
  { title: "Models", value: (row) => (row.models ? row.models.join(", ") : "all") },
  { title: "Limits", value: limits },
  { title: "Budget", value: budgets },
  { title: "Expires", value: (row) => (row.expires ? time(row.expires) : "never") },
  { title: "This month", number: true, value: (row) => usd(row.spend_usd.month) },
  { title: "Actions", value: keyActions },
]);

// Only what was filled in; numbers as numbers, lists as lists.
function creation(form) {
  const fields = Object.fromEntries(Object.entries(fieldsOf(form)).filter(([, value]) => value !== ""));
  if (!fields.budget) delete fields.per;
  for (const name of ["rpm", "tpm"]) if (fields[name]) fields[name] = Number(fields[name]);
  if (fields.models) fields.models = fields.models.split(",").map((model) => model.trim()).filter(Boolean);
  return fields;
}

function onCreate(formId, path, done) {
  byId(formId).addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(async () => {
      const made = await api("POST", path, creation(event.target));
      event.target.reset();
      notice(done(made));
      if (made.secret) showSecret(made.secret);
      await refresh();
    });
  });
}

onCreate("tenant-form", "/admin/v1/tenants", (made) => `Tenant ${made.name} was created.`);
onCreate("key-form", "/admin/v1/keys", (made) => `Key ${made.name || made.id} was created.`);

// --- pages ---

const pages = {
  overview: { show: showOverview, polls: () => true },
  usage: { show: async () => { await showServer(); await showUsage(); }, polls: () => false },
  requests: { show: () => showRequests(), polls: () => byId("requests-live").checked },
  tenants: { show: () => tenants.load(), polls: () => false },
  keys: { show: () => keys.load(), polls: () => false },
};

const current = () => (location.hash.slice(1) in pages ? location.hash.slice(1) : "overview");

async function attempt(run) {
  try {
    await run();
    if (failing) notice("");
  } catch (error) {
    if (error.status === 401) return;
    notice(error.message, true);
  }
}

const refresh = () => attempt(pages[current()].show);

function navigate() {
  for (const name of Object.keys(pages)) byId(name).hidden = name !== current();
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${current()}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  notice("");
  document.title = `${byId(`${current()}-title`).textContent} – tollgate console`;
  refresh();
}

addEventListener("hashchange", () => { navigate(); byId("main").focus(); });
addEventListener("resize", () => { if (days.length && current() === "overview") drawChart(); });
byId("chart-measure").addEventListener("change", drawChart);
byId("usage-form").addEventListener("submit", (event) => { event.preventDefault(); attempt(showUsage); });
byId("usage-csv").addEventListener("click", downloadUsage);
byId("requests-form").addEventListener("submit", (event) => { event.preventDefault(); attempt(() => showRequests()); });
byId("requests-more").addEventListener("click", () => attempt(() => showRequests(requestsNext)));
setInterval(() => {
  const isBusy = document.hidden || document.querySelector("dialog[open]");
  if (!isBusy && pages[current()].polls()) refresh();
}, POLL_MS);
navigate();
