// Node's https.request (or http.request, as the address says).
import http from "node:http";
import https from "node:https";

const address = new URL(process.env.URL);
const body = JSON.stringify({model: "test-model", stream: true, messages: [{role: "user", content: process.argv[2]}]});
const request = (address.protocol === "https:" ? https : http).request({
  hostname: address.hostname,
  port: address.port,
  path: "/v1/chat/completions",
  method: "POST",
  headers: {"Content-Type": "application/json", "Content-Length": Buffer.byteLength(body), Authorization: `Bearer ${process.env.KEY}`},
}, (response) => {
  let rest = "";
  response.setEncoding("utf8");
  response.on("data", (chunk) => {
    rest += chunk;
    let end;
    while ((end = rest.indexOf("\n\n")) >= 0) {
      const event = rest.slice(0, end);
      rest = rest.slice(end + 2);
      if (event.startsWith("data: ") && event !== "data: [DONE]") {
        process.stdout.write(JSON.parse(event.slice(6)).choices[0].delta.content ?? "");
      }
    }
  });
  response.on("end", () => console.log(" [end]"));
});
request.on("error", (error) => {
  console.error(error);
  process.exit(1);
});
request.write(body);
request.end();
