// ws that comes back when the connection is lost, waiting twice as long each time, and asks anew.
import WebSocket from "ws";

class ChatSocket {
  constructor(url, key) {
    this.url = url;
    this.key = key;
    this.attempts = 0;
    this.connect();
  }

  connect() {
    this.socket = new WebSocket(this.url, {headers: {"x-api-key": this.key}});
    this.socket.on("open", () => {
      this.attempts = 0;
      this.socket.send(JSON.stringify({type: "chat.completion", model: "test-model",
                                       messages: [{role: "user", content: process.argv[2]}]}));
    });
    this.socket.on("message", (data) => this.onMessage(JSON.parse(data)));
    this.socket.on("error", () => {});
    this.socket.on("close", () => this.reconnect());
  }

  reconnect() {
    const delay = Math.min(50 * 2 ** this.attempts++, 1000);
    console.log("[lost]");
    setTimeout(() => this.connect(), delay);
  }

  onMessage(message) {
    if (message.type === "content.delta") process.stdout.write(message.delta);
    if (message.type === "completion.done") console.log(" [end]");
    if (message.type === "completion.done" && message.finish_reason === "stop") process.exit(0);
  }
}

new ChatSocket(process.env.URL.replace(/^http/, "ws") + "/v1/ws/chat", process.env.KEY);
