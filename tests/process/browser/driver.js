"use strict";
// Chromium for the tests in Python: a JSON command a line on stdin, a JSON answer a line on stdout.
// {"id", "page": NAME, "call": METHOD, "args": [...]} calls a method of playwright's Page; METHOD may be "keyboard.press".
// "open" makes the page in a context of its own (args[0]: the context's options), "close" ends it; "problems" gives the
// exceptions that nothing in the page has caught since it was last asked.
// Usage: driver.js CHROMIUM LIMIT_MS

const readline = require("readline");
const { chromium } = require("playwright-core");

const [executablePath, limit] = process.argv.slice(2);
const pages = new Map();

async function open(browser, name, options = {}) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.setDefaultTimeout(Number(limit));
  const problems = [];
  page.on("pageerror", (error) => problems.push(String(error)));
  pages.set(name, { context, page, problems });
}

async function close(name) {
  const { context } = pages.get(name);
  pages.delete(name);
  await context.close();
}

async function obey(browser, { page: name, call, args }) {
  if (call === "open") return open(browser, name, ...args);
  if (call === "close") return close(name);
  if (call === "problems") return pages.get(name).problems.splice(0);
  const path = call.split(".");
  const method = path.pop();
  const owner = path.reduce((object, part) => object[part], pages.get(name).page);
  const result = await owner[method](...args);
  return ["evaluate", "textContent", "inputValue", "isDisabled", "isEnabled", "isVisible"].includes(method) ? result : null;
}

async function main() {
  // The tests may run as root, where Chromium has no sandbox, and in containers with a small /dev/shm.
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
  process.stdout.write(`${JSON.stringify({ version: browser.version() })}\n`);
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    obey(browser, command).then((result) => ({ result: result ?? null }), (error) => ({ error: String(error.message) }))
      .then((answer) => process.stdout.write(`${JSON.stringify({ id: command.id, ...answer })}\n`));
  }
  await browser.close();
}

main().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
