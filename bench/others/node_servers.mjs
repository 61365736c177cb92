// The servers that are a library in a program of your own, in as few lines as they take:
// `node node_servers.mjs socket.io PORT`, or `ws` instead of `socket.io`.

import { createServer } from "node:http";

import { Server } from "socket.io";
import { WebSocketServer } from "ws";

const [, , kind, port] = process.argv;
const http = createServer();

if (kind === "socket.io") {
  new Server(http).on("connection", (socket) => {
    socket.on("subscribe", (acknowledge) => {
      socket.join("room");
      acknowledge();
    });
    socket.on("publish", (data) => socket.to("room").emit("message", data));
  });
} else {
  const members = new Set();
  new WebSocketServer({ server: http }).on("connection", (socket, request) => {
    if (request.url === "/subscribe") members.add(socket);
    socket.on("close", () => members.delete(socket));
    socket.on("message", (data) => {
      for (const member of members) member.send(data, { binary: false });
    });
  });
}
http.listen(Number(port), "127.0.0.1");
