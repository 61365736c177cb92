// Calls between two browsers: invitation, WebRTC negotiation, media and a data channel.
//
// Signals go through the server as direct messages; voice, picture and data do not. Nothing
// is negotiated, and no address is told, before both sides have agreed. Who called makes the
// first offer: Chromium finds no addresses of a side whose first offer was taken back. After that
// it is "perfect negotiation": both may offer at any time, and the polite side gives way.

const PROBE_EVERY_MS = 1_000;
/** How long those who are called may think about it. */
const RING_MS_MAX = 45_000;

export class Call extends EventTarget {
  #send;
  #connection = null;
  #channel = null;
  #polite;
  #called;
  #offering = false;
  #ignoring = false;
  #probing = 0;
  #ringing = 0;
  #media = null;
  #queue = Promise.resolve();
  /** ringing (we called), invited (they called), linking, live, ended */
  state;
  /** The other side's sound and picture. */
  remote = new MediaStream();
  local = null;

  constructor({ id, peerId, ownId, video, state, send }) {
    super();
    Object.assign(this, { id, peerId, video, state });
    this.#send = (signal) => send({ kind: "call", call: id, ...signal });
    this.#polite = ownId < peerId;
    this.#called = state === "ringing";
    this.#ringing = setTimeout(() => this.#giveUp(), RING_MS_MAX);
  }

  get polite() {
    return this.#polite;
  }

  invite(media) {
    this.#use(media);
    this.#send({ do: "invite", video: this.video });
  }

  accept(media) {
    this.#use(media);
    this.#send({ do: "accept" });
    this.#open();
  }

  hangUp() {
    if (this.state === "ended") return;
    this.#send({ do: "end" });
    // The peers may have got new ids since: the channel between them knows nothing of ids.
    if (this.#channel?.readyState === "open") this.#channel.send(JSON.stringify({ end: true }));
    // What was sent has to leave before the channel closes under it.
    setTimeout(() => this.#end(), this.#channel ? 50 : 0);
    this.#become("ended");
  }

  /** What the other side signals. Signals are handled one after the other. */
  take(signal) {
    if (signal.do === "end") return this.#end();
    if (signal.do === "accept" && this.state === "ringing") return this.#open();
    if (signal.do === "signal" && this.#connection) {
      this.#queue = this.#queue.then(() => this.#negotiate(signal)).catch(() => {});
    }
  }

  /** The other side has left the server. A call that is live does not need it. */
  otherLeft() {
    if (this.state !== "live") this.#end();
  }

  get canSay() {
    return this.#channel?.readyState === "open";
  }

  say(text) {
    this.#channel.send(JSON.stringify({ text }));
  }

  /** Takes sound or picture back in, or stops giving it. */
  toggle(kind) {
    const tracks = this.local?.getTracks().filter((track) => track.kind === kind) ?? [];
    for (const track of tracks) track.enabled = !track.enabled;
    this.dispatchEvent(new Event("change"));
  }

  isOn(kind) {
    return this.local?.getTracks().some((track) => track.kind === kind && track.enabled) ?? false;
  }

  #use(media) {
    this.local = media;
    this.#media = media;
  }

  #open() {
    clearTimeout(this.#ringing);
    this.#become("linking");
    const connection = new RTCPeerConnection();
    this.#connection = connection;
    connection.onnegotiationneeded = () => this.#offer();
    connection.onicecandidate = ({ candidate }) =>
      candidate && this.#send({ do: "signal", candidate });
    connection.ontrack = ({ track }) => {
      this.remote.addTrack(track);
      this.dispatchEvent(new Event("change"));
    };
    connection.onconnectionstatechange = () => {
      if (connection.connectionState === "failed") this.#end();
    };
    const channel = connection.createDataChannel("demo", { negotiated: true, id: 0 });
    this.#channel = channel;
    channel.onopen = () => {
      this.#become("live");
      this.#probing = setInterval(() => this.#probe(), PROBE_EVERY_MS);
      this.#probe();
    };
    channel.onmessage = ({ data }) => this.#hear(data);
    channel.onclose = () => this.#end();
    for (const track of this.#media?.getTracks() ?? []) {
      connection.addTrack(track, this.#media);
    }
  }

  async #offer() {
    // What is needed then, if the other side's offer leaves any of it, is needed again later.
    if (!this.#called && !this.#connection.remoteDescription) return;
    this.#offering = true;
    try {
      await this.#connection.setLocalDescription();
      this.#send({ do: "signal", description: this.#connection.localDescription });
    } catch {
      // Closed meanwhile, or overtaken by the other side's offer.
    } finally {
      this.#offering = false;
    }
  }

  async #negotiate({ description, candidate }) {
    const connection = this.#connection;
    if (description) {
      const offered = description.type === "offer";
      const collides = this.#offering || connection.signalingState !== "stable";
      this.#ignoring = offered && collides && !this.#polite;
      if (this.#ignoring) return;
      await connection.setRemoteDescription(description);
      if (!offered) return;
      await connection.setLocalDescription();
      this.#send({ do: "signal", description: connection.localDescription });
    } else if (candidate && !this.#ignoring) {
      await connection.addIceCandidate(candidate);
    }
  }

  #probe() {
    if (this.canSay) this.#channel.send(JSON.stringify({ probe: performance.now() }));
  }

  #hear(data) {
    let said;
    try {
      said = JSON.parse(data) ?? {};
    } catch {
      return;
    }
    if (said.end) return this.#end();
    if (typeof said.text === "string") {
      this.dispatchEvent(new CustomEvent("text", { detail: said.text }));
    }
    if (typeof said.probe === "number") this.#channel.send(JSON.stringify({ echo: said.probe }));
    const ms = performance.now() - said.echo;
    if (ms >= 0 && ms < 60_000) this.dispatchEvent(new CustomEvent("round-trip", { detail: ms }));
  }

  #giveUp() {
    if (this.state === "ringing") this.hangUp();
    else this.#end();
  }

  #end() {
    clearTimeout(this.#ringing);
    clearInterval(this.#probing);
    for (const track of this.#media?.getTracks() ?? []) track.stop();
    this.#connection?.close();
    this.#become("ended");
  }

  #become(state) {
    if (this.state === state || this.state === "ended") return;
    this.state = state;
    this.dispatchEvent(new Event("change"));
  }
}
