// An application as a reader of the client's documentation writes it: everyone in a room has a
// data channel with everyone else. `window.room` is what the tests see of it.

import { MeteredPeer } from "./realtime.mjs";

const LABEL = "chat";

class Room {
  #peer;
  /** Data channels by `id/label`. */
  #links = new Map();
  /** What came through the server, and what came from page to page. */
  received = [];
  heard = [];
  /** The code of the close that ended the session, if one did. */
  closeCode = null;

  /** Joins `channel` with the publishable key `apiKey`, or with tokens for `sub`. */
  async join({ url, channel, apiKey, sub }) {
    const tokenProvider = async () => (await fetch(`/token?sub=${sub}`)).text();
    this.#peer = new MeteredPeer({ url, ...(apiKey ? { apiKey } : { tokenProvider }) });
    this.#peer.on("data", ({ senderPeerId: from, data }) => this.received.push({ from, data }));
    this.#peer.on("peer-joined", ({ peer }) => this.#meet(peer));
    this.#peer.on("peer-left", ({ peer }) => this.#forget(peer.id));
    this.#peer.client.on("disconnected", ({ code }) => (this.closeCode = code));
    await this.#peer.join(channel);
  }

  get state() {
    return this.#peer.state;
  }

  get roster() {
    return this.#peer.remotePeers.map(({ id }) => id).sort();
  }

  publish(data) {
    return this.#peer.send(data);
  }

  /** Opens a data channel to `id`. */
  dial(id, label) {
    const remote = this.#peer.remotePeers.find((peer) => peer.id === id);
    this.#link(id, remote.pc.createDataChannel(label));
  }

  isLinked(id, label = LABEL) {
    return this.#links.get(`${id}/${label}`)?.readyState === "open";
  }

  say(id, text, label = LABEL) {
    this.#links.get(`${id}/${label}`).send(text);
  }

  #meet(remote) {
    remote.on("data-channel", ({ channel }) => this.#link(remote.id, channel));
    remote.on("connection-reset", () => {
      this.#forget(remote.id);
      this.#call(remote);
    });
    this.#call(remote);
  }

  /** One of two has to call; the one with the smaller id does. */
  #call({ id }) {
    if (this.#peer.peerId < id) this.dial(id, LABEL);
  }

  #link(id, channel) {
    this.#links.set(`${id}/${channel.label}`, channel);
    channel.addEventListener("message", ({ data }) => {
      this.heard.push({ from: id, label: channel.label, text: data });
    });
  }

  #forget(id) {
    for (const key of this.#links.keys()) {
      if (key.startsWith(`${id}/`)) this.#links.delete(key);
    }
  }
}

window.room = new Room();
