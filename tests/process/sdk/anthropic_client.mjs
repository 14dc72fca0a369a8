// The scenarios with Anthropic's SDK for Node.
import Anthropic from "@anthropic-ai/sdk";
import {zodOutputFormat} from "@anthropic-ai/sdk/helpers/zod";
import {z} from "zod";
import {runTool, serve} from "./serve.mjs";

const TOOLS = [
  {name: "weather", description: "The weather in a city",
   input_schema: {type: "object", properties: {city: {type: "string"}}, required: ["city"], additionalProperties: false}},
  {name: "clock", description: "The time of day", input_schema: {type: "object", properties: {}}},
];
const City = z.object({name: z.string(), people: z.number().int(), districts: z.array(z.string())});

const client = (to) => new Anthropic({baseURL: to.url, apiKey: to.key, maxRetries: to.retries ?? 0, timeout: 30000});
const asking = (model, content, fields = {}) => ({model, max_tokens: 2000, messages: [{role: "user", content}], ...fields});
const textOf = (message) => message.content.filter((block) => block.type === "text").map((block) => block.text).join("");

function counted(usage) {
  const cached = usage.cache_read_input_tokens ?? 0;
  return {input: usage.input_tokens + cached + (usage.cache_creation_input_tokens ?? 0), cached, output: usage.output_tokens};
}

async function models({to}) {
  const ids = [];
  for await (const model of client(to).models.list()) ids.push(model.id);
  return ids.sort();
}

async function models_paged({to}) {
  const ids = [];
  for await (const model of client(to).models.list({limit: 2})) ids.push(model.id);
  return ids;
}

async function model({to, model}) {
  return (await client(to).models.retrieve(model)).id;
}

async function chat({to, model, prompt, ...options}) {
  const answer = await client(to).messages.create(asking(model, prompt, options));
  return {text: textOf(answer), finish: answer.stop_reason, id: answer._request_id, ...counted(answer.usage)};
}

async function stream({to, model, prompt}) {
  const texts = [];
  const events = client(to).messages.stream(asking(model, prompt)).on("text", (text) => texts.push(text));
  const answer = await events.finalMessage();
  return {text: texts.join(""), pieces: texts.length, finish: answer.stop_reason, id: events.request_id, ...counted(answer.usage)};
}

async function loop({to, model, prompt, streaming, ...options}) {
  const request = asking(model, prompt, {tools: TOOLS, ...options}), rounds = [];
  for (;;) {
    const message = streaming ? await client(to).messages.stream(request).finalMessage() : await client(to).messages.create(request);
    const calls = message.content.filter((block) => block.type === "tool_use");
    if (!calls.length) return {text: textOf(message), rounds};
    rounds.push(calls.map(({name, input}) => [name, input]));
    const results = calls.map(({id, name, input}) => ({type: "tool_result", tool_use_id: id, content: runTool(name, input)}));
    request.messages.push({role: "assistant", content: message.content}, {role: "user", content: results});
  }
}

function sourceOf(image) {
  if (!image.startsWith("data:")) return {type: "url", url: image};
  const [media_type, data] = image.slice(5).split(";base64,");
  return {type: "base64", media_type, data};
}

async function see({to, model, prompt, images}) {
  const blocks = images.map((image) => ({type: "image", source: sourceOf(image)}));
  return textOf(await client(to).messages.create(asking(model, [...blocks, {type: "text", text: prompt}])));
}

async function structured({to, model, prompt}) {
  return (await client(to).messages.parse(asking(model, prompt, {output_config: {format: zodOutputFormat(City)}}))).parsed_output;
}

async function leave({to, model, prompt}) {
  const {data, response} = await client(to).messages.create(asking(model, prompt, {stream: true})).withResponse();
  for await (const event of data) {
    if (event.type === "content_block_delta") return {text: event.delta.text, id: response.headers.get("request-id")};
  }
}

async function count({to, model, prompt}) {
  return (await client(to).messages.countTokens({model, messages: [{role: "user", content: prompt}]})).input_tokens;
}

await serve({models, models_paged, model, chat, stream, loop, see, structured, leave, count});
