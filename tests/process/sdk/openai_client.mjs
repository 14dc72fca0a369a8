// The scenarios with OpenAI's SDK for Node.
import OpenAI from "openai";
import {zodResponseFormat} from "openai/helpers/zod";
import {z} from "zod";
import {runTool, serve} from "./serve.mjs";

const TOOLS = [
  {type: "function", function: {
    name: "weather", description: "The weather in a city", strict: true,
    parameters: {type: "object", properties: {city: {type: "string"}}, required: ["city"], additionalProperties: false}}},
  {type: "function", function: {name: "clock", description: "The time of day", parameters: {type: "object", properties: {}}}},
];
const City = z.object({name: z.string(), people: z.number().int(), districts: z.array(z.string())});

const client = (to) => new OpenAI({baseURL: to.url + "/v1", apiKey: to.key, maxRetries: to.retries ?? 0, timeout: 30000});
const user = (content) => [{role: "user", content}];
const counted = (usage) => ({input: usage.prompt_tokens, cached: usage.prompt_tokens_details.cached_tokens, output: usage.completion_tokens});

async function models({to}) {
  const ids = [];
  for await (const model of client(to).models.list()) ids.push(model.id);
  return ids.sort();
}

async function model({to, model}) {
  return (await client(to).models.retrieve(model)).id;
}

async function chat({to, model, prompt, ...options}) {
  const answer = await client(to).chat.completions.create({model, messages: user(prompt), ...options});
  const [choice] = answer.choices;
  return {text: choice.message.content, finish: choice.finish_reason, id: answer._request_id, ...counted(answer.usage)};
}

async function stream({to, model, prompt}) {
  const {data, response} = await client(to).chat.completions
    .create({model, messages: user(prompt), stream: true, stream_options: {include_usage: true}}).withResponse();
  const texts = [];
  let finish, usage;
  for await (const chunk of data) {
    if (chunk.choices[0]?.delta.content) texts.push(chunk.choices[0].delta.content);
    finish = chunk.choices[0]?.finish_reason ?? finish;
    usage = chunk.usage ?? usage;
  }
  return {text: texts.join(""), pieces: texts.length, finish, id: response.headers.get("x-request-id"), cost: usage.cost, ...counted(usage)};
}

async function loop({to, model, prompt, streaming, ...options}) {
  const messages = user(prompt), rounds = [];
  for (;;) {
    const request = {model, messages, tools: TOOLS, ...options};
    const message = streaming ? await client(to).chat.completions.stream(request).finalMessage()
                              : (await client(to).chat.completions.create(request)).choices[0].message;
    if (!message.tool_calls?.length) return {text: message.content, rounds};
    messages.push(message);
    const calls = message.tool_calls.map((call) => ({id: call.id, name: call.function.name, input: JSON.parse(call.function.arguments)}));
    rounds.push(calls.map(({name, input}) => [name, input]));
    for (const {id, name, input} of calls) messages.push({role: "tool", tool_call_id: id, content: runTool(name, input)});
  }
}

async function see({to, model, prompt, images}) {
  const parts = images.map((url) => ({type: "image_url", image_url: {url}}));
  const answer = await client(to).chat.completions.create({model, messages: user([{type: "text", text: prompt}, ...parts])});
  return answer.choices[0].message.content;
}

async function structured({to, model, prompt}) {
  const answer = await client(to).chat.completions
    .parse({model, messages: user(prompt), response_format: zodResponseFormat(City, "city")});
  return answer.choices[0].message.parsed;
}

async function leave({to, model, prompt}) {
  const {data, response} = await client(to).chat.completions.create({model, messages: user(prompt), stream: true}).withResponse();
  for await (const chunk of data) {
    const text = chunk.choices[0].delta.content;
    if (text) return {text, id: response.headers.get("x-request-id")};  // leaving the loop aborts the request
  }
}

async function respond({to, model, prompt}) {
  const answer = await client(to).responses.create({model, input: prompt});
  return {text: answer.output_text, finish: answer.status, id: answer._request_id, input: answer.usage.input_tokens,
          output: answer.usage.output_tokens};
}

async function respond_stream({to, model, prompt}) {
  const {data, response} = await client(to).responses.create({model, input: prompt, stream: true}).withResponse();
  const texts = [];
  let answer;
  for await (const event of data) {
    if (event.type === "response.output_text.delta") texts.push(event.delta);
    if (event.type === "response.completed") answer = event.response;
  }
  return {text: texts.join(""), finish: answer.status, id: response.headers.get("x-request-id"), input: answer.usage.input_tokens,
          output: answer.usage.output_tokens};
}

async function complete({to, model, prompt}) {
  const answer = await client(to).completions.create({model, prompt});
  return {text: answer.choices[0].text, finish: answer.choices[0].finish_reason, id: answer._request_id,
          input: answer.usage.prompt_tokens, output: answer.usage.completion_tokens};
}

async function complete_stream({to, model, prompt}) {
  const texts = [];
  for await (const chunk of await client(to).completions.create({model, prompt, stream: true})) texts.push(chunk.choices[0].text);
  return texts.join("");
}

async function embed({to, model, prompt, ...options}) {
  const answer = await client(to).embeddings.create({model, input: [prompt, prompt], ...options});
  return {vectors: answer.data.map((item) => Array.from(item.embedding)), input: answer.usage.prompt_tokens};
}

await serve({models, model, chat, stream, loop, see, structured, leave, respond, respond_stream, complete, complete_stream, embed});
