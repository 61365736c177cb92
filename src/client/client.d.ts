// The types of `client.js`.

/** Where a channel with history stands. */
export interface Position {
  epoch: string;
  seq: number;
}

export interface Peer {
  peerId: string;
  metadata?: Record<string, unknown>;
}

export interface SubscribeOptions {
  /** Whether messages tell who sent them, as `fromMetadata`. */
  includeSenderMetadata?: boolean;
  /** Goes on from here: what `position` has returned earlier. */
  since?: Position;
  /** Begins with so many of the newest messages. */
  last?: number;
}

export interface Subscribed {
  /** Null where the channel has no history. */
  epoch: string | null;
  seq: number;
  /** Whether everything since `since` comes. */
  recovered: boolean;
  /** How many messages are replayed. */
  count: number;
}

export interface PublishOptions {
  /** Repeats also where the server cannot tell a repetition. */
  atLeastOnce?: boolean;
  /** Rejects as `TimeoutError` after so long. */
  publishTimeoutMs?: number;
}

export interface Published {
  /** Null where the channel has no history; missing where the server knows of none. */
  epoch?: string | null;
  seq?: number;
  /** Whether it was there already: its first ack was lost. */
  duplicate?: boolean;
}

export interface WebSocketLike {
  send(data: string): void;
  close(code?: number, reason?: string): void;
  addEventListener(type: any, listener: (event: any) => void): void;
}

export interface ReconnectOptions {
  /** The first delay is random between 0 and this; default 1,000. */
  initialDelayMs?: number;
  /** Default 2. */
  multiplier?: number;
  /** Default 30,000. */
  maxDelayMs?: number;
  /** Default: never gives up. */
  maxAttempts?: number;
}

export interface SignallingClientOptions {
  /** Either this or `tokenProvider`. */
  apiKey?: string;
  tokenProvider?: () => Promise<string> | string;
  /** `ws`, `wss`, `http` or `https`, without a path. Default: where the module came from. */
  url?: string;
  reconnect?: ReconnectOptions | false;
  /** Default true. */
  autoResubscribe?: boolean;
  /** See `PublishOptions`. */
  atLeastOnce?: boolean;
  /** Default 60,000: less than servers remember ids for. */
  publishTimeoutMs?: number;
  /** Without an answer for so long, a connection is given up; default 20,000. */
  ackTimeoutMs?: number;
  /** Default 15,000. */
  connectTimeoutMs?: number;
  /** Without a sign of life for so long, a connection is given up; default 60,000, 0 never. */
  inactivityTimeoutMs?: number;
  /** Default 10,000. */
  tokenProviderTimeoutMs?: number;
  /** Needed where there is no global `WebSocket`, as in Node 20. */
  webSocketFactory?: (url: string) => WebSocketLike;
}

export type State = "idle" | "connecting" | "connected" | "reconnecting" | "closed";

export interface ChannelMessage {
  channel: string;
  from: string;
  data: any;
  fromMetadata?: Record<string, unknown>;
  /** In channels with history. */
  seq?: number;
  /** Whether it was published while we were away. */
  replayed?: true;
}

export interface Gap {
  channel: string;
  /**
   * `lost`: the server does not have what we missed, or not all of it. `no-history`: the channel
   * keeps none. `unsupported`: the server does not know of history.
   */
  reason: "lost" | "no-history" | "unsupported";
  /** How many messages, where that is known. */
  missed?: number;
}

export interface Events {
  connected: {
    peerId: string;
    serverTime: number;
    expiresAt: number | null;
    isReconnect: boolean;
    maxMessageSize: number;
    metadata?: Record<string, any>;
    iceServers?: { urls: string | string[]; username?: string; credential?: string }[];
  };
  disconnected: { code: number; reason: string; willReconnect: boolean };
  "state-change": { from: State; to: State };
  /** What people can be shown: at each change, and at each try. */
  state: { state: State; message: string; code?: number; reason?: string };
  message: ChannelMessage;
  direct: { from: string; data: any; fromMetadata?: Record<string, unknown> };
  /** After an absence: all that was missed comes now, so many messages. */
  recovered: { channel: string; count: number };
  /** After an absence: messages may have been missed, and do not come. */
  gap: Gap;
  presence: { channel: string; joined: Peer[]; left: Peer[] };
  "peer-joined": Peer & { channel: string };
  "peer-left": Peer & { channel: string };
  /** A channel that the credential does not open any more. */
  unsubscribed: { channel: string; code: string; message: string };
  /** The token has been replaced on the live connection. */
  refreshed: { expiresAt: number };
  "going-away": { retryAfterMs: number };
  "server-error": { requestId?: string; code: string; message?: string };
  "token-provider-error": { consecutiveFailures: number; err: Error };
}

export class SignallingClient {
  constructor(options: SignallingClientOptions);
  readonly state: State;
  readonly peerId: string | null;
  /** With `retry` also the first connection is tried again and again. */
  connect(options?: { retry?: boolean }): Promise<void>;
  close(code?: number, reason?: string): Promise<void>;
  subscribe(channel: string, options?: SubscribeOptions): Promise<Subscribed>;
  unsubscribe(channel: string): Promise<void>;
  publish(channel: string, data: unknown, options?: PublishOptions): Promise<Published>;
  send(to: string, data: unknown): Promise<void>;
  position(channel: string): Position | null;
  peers(channel: string): Peer[];
  on<K extends keyof Events>(event: K, handler: (payload: Events[K]) => void): this;
  off<K extends keyof Events>(event: K, handler: (payload: Events[K]) => void): this;
  once<K extends keyof Events>(event: K, handler: (payload: Events[K]) => void): this;
}

export class SignallingConnectError extends Error {
  readonly closeCode: number;
  readonly closeReason: string;
}

export class OversizedPayloadError extends Error {
  readonly size: number;
  readonly cap: number;
}
