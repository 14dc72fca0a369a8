// The scenarios with the Vercel AI SDK. The provider is OpenAI's (chat completions) or Anthropic's, as the first argument says.
import {createAnthropic} from "@ai-sdk/anthropic";
import {createOpenAI} from "@ai-sdk/openai";
import {generateObject, generateText, stepCountIs, streamText, tool} from "ai";
import {z} from "zod";
import {runTool, serve} from "./serve.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false;
const provider = process.argv[2];
const City = z.object({name: z.string(), people: z.number().int(), districts: z.array(z.string())});

function modelOf(to, model) {
  const options = {baseURL: to.url + "/v1", apiKey: to.key};
  return provider === "anthropic" ? createAnthropic(options)(model) : createOpenAI(options).chat(model);
}

const asking = ({to, model, prompt}) => ({model: modelOf(to, model), prompt, maxRetries: to.retries ?? 0});
const counted = (usage) => ({input: usage.inputTokens, cached: usage.inputTokenDetails.cacheReadTokens, output: usage.outputTokens});

async function chat(asked) {
  const {text, finishReason, usage, response} = await generateText(asking(asked));
  return {text, finish: finishReason, id: response.headers["x-request-id"], ...counted(usage)};
}

async function stream(asked) {
  const result = streamText(asking(asked)), texts = [];
  for await (const text of result.textStream) texts.push(text);
  const {headers} = await result.response;
  return {text: texts.join(""), pieces: texts.length, finish: await result.finishReason, id: headers["x-request-id"],
          ...counted(await result.usage)};
}

async function loop({streaming, providerOptions, ...asked}) {
  const rounds = [];
  const request = {
    ...asking(asked), stopWhen: stepCountIs(5), providerOptions,
    tools: {
      weather: tool({description: "The weather in a city", inputSchema: z.object({city: z.string()}),
                     execute: (input) => runTool("weather", input)}),
      clock: tool({description: "The time of day", inputSchema: z.object({}), execute: (input) => runTool("clock", input)}),
    },
    onStepFinish({toolCalls}) {
      if (toolCalls.length) rounds.push(toolCalls.map((call) => [call.toolName, call.input]));
    },
  };
  const result = streaming ? streamText(request) : await generateText(request);
  return {text: await result.text, rounds};
}

async function see({images, ...asked}) {
  const {prompt, ...request} = asking(asked);
  const parts = images.map((image) => ({type: "image", image: image.startsWith("data:") ? image : new URL(image)}));
  return (await generateText({...request, messages: [{role: "user", content: [{type: "text", text: prompt}, ...parts]}]})).text;
}

async function structured(asked) {
  return (await generateObject({...asking(asked), schema: City})).object;
}

async function leave(asked) {
  const controller = new AbortController();
  const result = streamText({...asking(asked), abortSignal: controller.signal});
  for await (const text of result.textStream) {
    controller.abort();
    return {text, id: null};
  }
}

// What a stream throws goes into its callback.
async function stream_error(asked) {
  let seen;
  await streamText({...asking(asked), onError: ({error}) => { seen = error; }}).consumeStream();
  if (seen) throw seen;
}

await serve({chat, stream, loop, see, structured, leave, stream_error});
