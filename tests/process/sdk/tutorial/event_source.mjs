// The eventsource package, with the key in the query.
import {EventSource} from "eventsource";

const query = new URLSearchParams({model: "test-model", prompt: process.argv[2], api_key: process.env.KEY});
const source = new EventSource(`${process.env.URL}/v1/stream?${query}`);
source.onmessage = (event) => {
  if (event.data === "[DONE]") {
    source.close();
    console.log(" [end]");
    return;
  }
  process.stdout.write(JSON.parse(event.data).choices[0].delta.content ?? "");
};
