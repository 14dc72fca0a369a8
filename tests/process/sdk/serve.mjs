// What the Node clients share: a line of JSON in names a scenario and its arguments, a line out has what it returned or raised.
import {createInterface} from "node:readline";

const WEATHER = {Oslo: "7 degrees", Lima: "19 degrees", Cairo: "31 degrees"};

// The tools of every scenario.
export function runTool(name, input) {
  return name === "weather" ? WEATHER[input.city] : "noon";
}

// An exception as the tests compare it.
export function described(error) {
  const inner = error.error?.error ?? error.error ?? error.data?.error ?? {};
  return {class: error.constructor.name, status: error.status ?? error.statusCode ?? null, code: error.code ?? inner.code ?? null,
          type: inner.type ?? error.type ?? null,
          id: error.requestID ?? error.responseHeaders?.["x-request-id"] ?? null, message: String(error.message)};
}

export async function serve(scenarios) {
  for await (const line of createInterface({input: process.stdin})) {
    const {do: name, ...asked} = JSON.parse(line);
    let told;
    try {
      told = {value: await scenarios[name](asked) ?? null};
    } catch (error) {
      told = {raised: described(error)};
    }
    process.stdout.write(JSON.stringify(told) + "\n");
  }
}
