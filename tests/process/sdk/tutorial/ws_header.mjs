// ws with the key in a header.
import WebSocket from "ws";

const socket = new WebSocket(process.env.URL.replace(/^http/, "ws") + "/v1/ws/chat", {
  headers: {Authorization: `Bearer ${process.env.KEY}`},
});
socket.on("open", () => {
  socket.send(JSON.stringify({type: "chat.completion", model: "test-model", messages: [{role: "user", content: process.argv[2]}]}));
});
socket.on("message", (data) => {
  const message = JSON.parse(data);
  if (message.type === "content.delta") {
    process.stdout.write(message.delta);
  } else if (message.type === "completion.done") {
    console.log(" [end]");
    socket.close();
  } else if (message.type === "error") {
    console.error("Error:", message.error.message);
    socket.close();
  }
});
socket.on("error", (error) => console.error("WebSocket error:", error.message));
