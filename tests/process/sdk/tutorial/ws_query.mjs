// ws with the key in the query, and the other names of messages.
import WebSocket from "ws";

const url = `${process.env.URL.replace(/^http/, "ws")}/v1/ws/chat?api_key=${encodeURIComponent(process.env.KEY)}&dialect=stream`;
const ws = new WebSocket(url);
let usage;

ws.onopen = () => {
  ws.send(JSON.stringify({type: "ping"}));
  ws.send(JSON.stringify({type: "chat.completion", id: "q1", model: "test-model", messages: [{role: "user", content: process.argv[2]}]}));
};
ws.onmessage = (event) => {
  const message = JSON.parse(event.data);
  switch (message.type) {
    case "stream":
      process.stdout.write(message.delta.content ?? "");
      break;
    case "usage":
      usage = message.usage;
      break;
    case "done":
      if (usage.completion_tokens > 0) console.log(" [end]");
      ws.close(1000);
      break;
    case "error":
      console.error(message.error.message);
      ws.close();
  }
};
