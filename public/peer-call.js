/**
 * One call of connect.js: its signals, its peer connection and its data channels.
 *
 * When a connection does not recover, another one replaces it: a new *generation* of the call,
 * whose number `g` its signals have. The callee makes its offer; the caller asks for it with
 * {call, renew: g}. The data channels continue over it without a loss.
 */

import {InboxError, MAX_RETRY_DELAY} from './codec.js';
import {DataChannel} from './data-channel.js';
import {IceServers} from './ice.js';
import {Peer} from './peer.js';

/** Milliseconds between two rings. The mailbox of a callee that has left takes them for a while. */
const RING_INTERVAL = 5_000;
/** Milliseconds that a call has to connect, for the caller and for the callee. The caller then makes another one. */
const CALLER_TIME = 15_000;
const CALLEE_TIME = 30_000;
/** Milliseconds after which a call that does not recover is lost, or a caller that rings no more has left. */
const LOST_TIME = 120_000;
/** Milliseconds before another connection replaces one that ICE does not restore, or whose channel has closed, and between two such attempts. */
const RENEW_DELAY = 12_000;
const CLOSED_RENEW_DELAY = 1_000;
/** Milliseconds after which a remote peer that has closed its connection has left. A page that closes cannot always say so. */
const LEFT_TIME = 15_000;
const RENEW_INTERVAL = 15_000;
/** Milliseconds in which the data channel must answer when the path is connected again. */
const PING_TIME = 10_000;
/** Milliseconds that a call has to send the rest when it is closed. */
const CLOSE_TIME = 10_000;
/** Milliseconds that a last message has before the mailbox is closed. */
const BYE_TIME = 2_000;
/** Maximum milliseconds before a request is retried during a relayed call, whose relay is usually a part of the server. */
const RELAYED_RETRY_DELAY = 2_000;
/** Milliseconds for which ICE servers that were fetched early are used. Their credentials expire. */
const FRESH_TIME = 60_000;
/** Maximum number of data channels that the remote peer can create. */
const MAX_CHANNELS = 64;
/** How the subprotocol of a channel with messages of data-channel.js begins. The rest identifies the channel. */
const PROTOCOL = 'inbox.1.';
/** Maximum number of characters of a subprotocol. */
const MAX_PROTOCOL_LENGTH = 64;
/** Maximum number of connections of a call. */
const MAX_GENERATION = 1e6;

/** @type {readonly Kind[]} */
const kinds = ['audio', 'video'];

/**
 * @typedef {import('./inbox.js').Inbox} Inbox
 * @typedef {import('./peer.js').Signal} Signal
 * @typedef {'audio'|'video'} Kind
 * @typedef {'caller'|'callee'} Role
 * @typedef {'connecting'|'connected'|'reconnecting'|'closed'} CallState
 * @typedef {'local'|'remote'|'lost'} CloseReason which side has closed the call; lost: its connection did not recover
 * @typedef {{state: CustomEvent<CallState>, track: CustomEvent<{track: MediaStreamTrack, stream: MediaStream}>,
 *   channel: CustomEvent<DataChannel>, path: CustomEvent<'direct'|'relayed'>, error: CustomEvent<any>}} CallEvents
 *
 * @typedef {object} Line the mailbox of the call, see connect.js
 * @property {Inbox} inbox
 * @property {Map<string, Call>} dialing
 * @property {(id: string, call: Call) => void} add
 * @property {(id: string, remote: string, bye: unknown) => void} remove
 */

/**
 * Call is a call that is connected. Events, all with a `detail`:
 * - state: the new {@link CallState}
 * - track: {track, stream} when media of a remote track arrives; `stream` is remoteStream
 * - channel: a {@link DataChannel} that the remote peer has created
 * - path: 'direct' or 'relayed', when it changes
 * - error: an Error during negotiation; the call can continue
 */
export class Call extends /** @type {import('./events.js').TypedTarget<CallEvents>} */ (/** @type {unknown} */ (EventTarget)) {
  /** The remote tracks whose media has arrived. */
  remoteStream = globalThis.MediaStream && new MediaStream();
  #resolveClosed = (/** @type {CloseReason} */ _reason) => {};
  /** Resolves when the call is closed. @type {Promise<CloseReason>} */
  closed = new Promise(resolve => { this.#resolveClosed = resolve; });
  /** @type {CallState} */
  #state = 'connecting';
  #isConnected = false;
  /** Settles when the call is connected, with false if this attempt has failed. */
  #settle = {resolve: (/** @type {boolean} */ _connected) => {}, reject: (/** @type {unknown} */ _error) => {}};
  /** @type {Promise<boolean>} */
  #connected = new Promise((resolve, reject) => { this.#settle = {resolve, reject}; });
  /** @type {Peer | null} */
  #peer = null;
  /** The one before, while there is none. @type {Peer | null} */
  #previousPeer = null;
  /** The present one, when it has the channels of the call. @type {Peer | null} */
  #channelPeer = null;
  /** @type {DataChannel | null} */
  #channel = null;
  /** The other channels by their subprotocols. @type {Map<string, DataChannel>} */
  #channels = new Map();
  #created = 0;
  #generation = 0;
  /** @type {Map<Kind, MediaStreamTrack | null>} */
  #tracks = new Map();
  /** The kinds that the remote peer sends. @type {Set<string>} */
  #remoteKinds = new Set();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #renewTimer;
  /** Whether a ring was sent, or has arrived. */
  #rang = false;
  /** Whether the application is asked for its choice. */
  #accepting = false;
  /** Settles when the call is closed, after a call of close. @type {Promise<void> | null} */
  #closing = null;
  /** Ends the rings. */
  #ringing = new AbortController();
  /** Ends the signals that are being sent. */
  #signaling = new AbortController();
  /** Settles when the signals before are encrypted. */
  #sealing = Promise.resolve();
  #receiving = Promise.resolve();
  /** The last message, encrypted early because a page that closes has no time. @type {unknown} */
  #bye = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {{at: number, servers: Promise<RTCIceServer[]>} | null} */
  #early = null;
  #id;
  #remote;
  #role;
  #line;
  #options;
  #iceServers;
  /** Removes the listeners of the mailbox and of the page. */
  #unlisten = () => {};

  /**
   * @param {object} options
   * @param {Line} options.line
   * @param {string} options.id
   * @param {string} options.remote the mailbox of the remote peer
   * @param {Role} options.role
   * @param {import('./connect.js').AnswerOptions} options.options
   * @internal
   */
  constructor({line, id, remote, role, options}) {
    super();
    this.#line = line;
    this.#id = id;
    this.#remote = remote;
    this.#role = role;
    this.#options = options;
    this.#iceServers = new IceServers(line.inbox, options.fetch);
    this.#connected.catch(() => {}); // handled by dial or pickUp
    line.add(id, this);
    this.#addTracks(options.stream);
    this.#listen();
    void this.#prepareBye();
  }

  /** The id of the call, which both sides know. */
  get id() {
    return this.#id;
  }

  /** The name of the mailbox of the remote peer. */
  get remote() {
    return this.#remote;
  }

  get inbox() {
    return this.#line.inbox;
  }

  /** @returns {CallState} */
  get state() {
    return this.#state;
  }

  /** The data channel that each call has. */
  get channel() {
    return /** @type {DataChannel} */ (this.#channel);
  }

  /** The peer connection, which another one can replace. */
  get peer() {
    return /** @type {Peer} */ (this.#peer ?? this.#previousPeer);
  }

  /**
   * Sends a track in place of the previous one of its kind; null stops sending.
   * @param {Kind} kind
   * @param {MediaStreamTrack | null} track
   */
  async setTrack(kind, track) {
    this.#tracks.set(kind, track);
    await this.#peer?.setTrack(kind, track);
  }

  /**
   * Creates another data channel. The remote peer gets the event `channel`. Throws an InboxError
   * `closed`.
   * @param {string} label
   * @returns {DataChannel}
   */
  createChannel(label) {
    if (this.#closing || this.#state === 'closed') throw new InboxError('closed', 'the call is closed');
    const protocol = `${PROTOCOL}${this.#role}${++this.#created}`;
    return this.#addChannel(protocol, this.#channelPeer?.createDataChannel(label, {protocol}), label);
  }

  /** Returns the statistics of the connection. */
  getStats() {
    return this.peer.getStats();
  }

  /**
   * Closes the call on both sides, after what was sent before. Resolves when it is closed, at the
   * latest after ten seconds.
   * @returns {Promise<void>}
   */
  close() {
    return this.#closing ??= this.#close();
  }

  /** Closes the first channel last: its end is that of the call on the other side. */
  async #close() {
    const timer = setTimeout(() => this.#end('local'), CLOSE_TIME);
    const close = (/** @type {DataChannel} */ channel) => (this.#state === 'connected' || channel.bufferedAmount > 0 ? channel.close() : undefined);
    await Promise.all([...this.#channels.values()].map(close));
    if (this.#channel) await close(this.#channel);
    clearTimeout(timer);
    this.#end('local');
  }

  /**
   * Rings until the call is connected. Resolves to false if another attempt is due.
   * @param {AbortSignal} [signal]
   * @internal
   */
  async dial(signal) {
    const {dialing} = this.#line;
    const abort = () => this.#end('local', signal?.reason);
    dialing.set(this.#remote, this);
    signal?.addEventListener('abort', abort);
    if (signal?.aborted) abort();
    void this.#ring();
    try {
      return await this.#connected;
    } finally {
      signal?.removeEventListener('abort', abort);
      if (dialing.get(this.#remote) === this) dialing.delete(this.#remote);
    }
  }

  async #ring() {
    const {signal} = this.#ringing;
    let wake = () => {};
    signal.addEventListener('abort', () => wake());
    const tracks = [...this.#tracks.keys()];
    try {
      while (!signal.aborted) {
        this.#early = {at: Date.now(), servers: this.#fetchIceServers()};
        await this.#line.inbox.send(this.#remote, await this.#seal({call: this.#id, ring: tracks}), {wait: Infinity, signal});
        this.#rang = true;
        await new Promise(resolve => {
          const timer = setTimeout(resolve, RING_INTERVAL);
          wake = () => {
            clearTimeout(timer);
            resolve(undefined);
          };
        });
      }
    } catch (error) {
      if (!signal.aborted) this.#end('local', error);
    }
  }

  /**
   * Handles the first message of a call, which must be a ring. Resolves to true when the call is
   * connected, and to false if it is not a call any more.
   * @param {{call: string}} message
   * @internal
   */
  pickUp(message) {
    this.receive(message);
    return this.#connected;
  }

  /**
   * Declines a call that is not connected.
   * @internal
   */
  decline() {
    this.#end('local', undefined, 'declined');
  }

  /**
   * Handles the first message of a call from the mailbox that this call rings. The call with the
   * smaller id remains.
   * @param {{call: string}} data
   * @internal
   */
  cross(data) {
    if (this.#role === 'caller' && (this.#peer || data.call > this.#id)) return;
    this.#receiving = this.#receiving.then(async () => {
      if (data.call === this.#id) return; // it rings again
      const message = await this.#open(data, data.call, 'caller');
      if (message.bye || !message.ring || this.#isConnected || this.#state === 'closed') return;
      this.#ringing.abort();
      this.#closePeer();
      this.#channel = null;
      this.#line.add(data.call, this);
      this.#line.remove(this.#id, this.#remote, null);
      this.#id = data.call;
      this.#role = 'callee';
      this.#rang = true;
      void this.#prepareBye();
      this.#addRemoteKinds(message.ring);
      await this.#offer();
    }).catch(() => {}); // not a message of a call
  }

  /**
   * Handles a message of the remote peer.
   * @param {any} data any value that arrived
   * @internal
   */
  receive(data) {
    this.#receiving = this.#receiving.then(() => this.#onMessage(data)).catch(error => this.#onUnreadable(error));
  }

  /** @param {any} data */
  async #onMessage(data) {
    const message = await this.#open(data, this.#id, this.#role === 'caller' ? 'callee' : 'caller');
    if (this.#state === 'closed') return;
    if (message.bye) return this.#onBye(message.bye);
    if (message.ring) return this.#onRing(message.ring);
    if (this.#role === 'callee' && !this.#rang) return this.#end('remote'); // late
    if (message.renew) return this.#onRenew(message.renew);
    const {g = 0} = message;
    if (this.#peer && g === this.#generation) return void this.#peer.receive(message);
    const isNew = this.#role === 'caller' && Number.isInteger(g) && message.description?.type === 'offer' && g >= this.#generation && g <= MAX_GENERATION;
    if (isNew) await this.#answer(message, g).catch(error => this.#onFailure(error));
  }

  /** @param {unknown} error */
  #onUnreadable(error) {
    if (this.#role === 'callee' && !this.#rang) this.#end('local', error, 'unreadable');
    else this.#emit('error', error);
  }

  /** @param {unknown} bye */
  #onBye(bye) {
    const refused = !this.#isConnected && this.#role === 'caller' && (bye === 'declined' || bye === 'unreadable');
    if (refused) this.#end('remote', new InboxError(bye, bye === 'declined' ? 'the callee has declined the call' : 'the callee cannot read the signals'));
    else this.#end('remote');
  }

  /** @param {unknown} ring */
  #onRing(ring) {
    if (this.#role !== 'callee' || (this.#rang && !this.#accepting)) return;
    this.#setTimer(LOST_TIME, () => this.#end('remote')); // unless it rings again
    if (this.#rang) return;
    this.#rang = this.#accepting = true;
    void this.#accept(ring).catch(error => this.#end('local', error, 'declined'));
  }

  /** @param {unknown} ring */
  async #accept(ring) {
    const {accept} = this.#options;
    const choice = accept ? await accept(this.#remote) : true;
    this.#accepting = false;
    if (this.#state === 'closed') return;
    if (!choice) return this.decline();
    if (choice !== true) this.#options = {...this.#options, ...choice};
    if (choice !== true) this.#addTracks(choice.stream);
    this.#addRemoteKinds(ring);
    await this.#offer();
  }

  /** @param {MediaStream} [stream] */
  #addTracks(stream) {
    for (const kind of kinds) {
      const track = stream?.getTracks().find(track => track.kind === kind);
      if (track) this.#tracks.set(kind, track);
    }
  }

  /** @param {unknown} ring the kinds of the caller's tracks */
  #addRemoteKinds(ring) {
    for (const kind of kinds) if (Array.isArray(ring) && ring.includes(kind)) this.#remoteKinds.add(kind);
  }

  /** Makes the offer of the callee, with the tracks of both sides. */
  async #offer() {
    const peer = await this.#connect(CALLEE_TIME);
    if (!peer) return;
    for (const kind of kinds) {
      const track = this.#tracks.get(kind) ?? null;
      if (track || this.#remoteKinds.has(kind)) void peer.setTrack(kind, track);
    }
    this.#openChannels(peer);
  }

  /**
   * Answers the offer of the callee.
   * @param {Signal} offer
   * @param {number} generation
   */
  async #answer(offer, generation) {
    this.#ringing.abort();
    this.#generation = generation;
    this.#onLost(RENEW_INTERVAL);
    const peer = await this.#connect(CALLER_TIME);
    if (!peer) return;
    for (const [kind, track] of this.#tracks) void peer.setTrack(kind, track);
    await peer.receive(offer);
    if (peer === this.#peer) this.#openChannels(peer);
  }

  /** @param {unknown} generation that the caller asks for */
  #onRenew(generation) {
    const isNew = this.#role === 'callee' && Number.isInteger(generation) && Number(generation) > this.#generation && Number(generation) <= MAX_GENERATION;
    if (!isNew || !this.#peer) return;
    this.#generation = Number(generation);
    this.#onLost(RENEW_INTERVAL);
    void this.#offer().catch(error => this.#onFailure(error));
  }

  /** Notes that a connection cannot be created. @param {unknown} error */
  #onFailure(error) {
    if (this.#isConnected) this.#emit('error', error);
    else this.#end('local', error);
  }

  /** Replaces the connection. */
  #renew() {
    if (this.#state !== 'reconnecting') return;
    this.#renewTimer = setTimeout(() => this.#renew(), RENEW_INTERVAL);
    const {status} = this.#line.inbox;
    if (status !== 'open') return;
    if (this.#role === 'caller') return this.#send({call: this.#id, renew: this.#generation + 1});
    this.#generation++;
    void this.#offer().catch(error => this.#onFailure(error));
  }

  /**
   * Notes that the connection was lost.
   * @param {number} delay milliseconds before another one replaces it
   */
  #onLost(delay) {
    if (!this.#isConnected || this.#state === 'closed') return;
    clearTimeout(this.#renewTimer);
    this.#renewTimer = setTimeout(() => this.#renew(), delay);
    if (this.#state === 'reconnecting') return;
    this.#setState('reconnecting');
    this.#setTimer(LOST_TIME, () => this.#end('lost'));
  }

  /** Handles the end of the first channel, without a word of the remote peer. Firefox also closes it when ICE fails. */
  #onChannelLost() {
    const hasClosed = this.#peer?.state === 'connected';
    this.#onLost(CLOSED_RENEW_DELAY);
    if (hasClosed && this.#state === 'reconnecting') this.#setTimer(LEFT_TIME, () => this.#end('remote'));
  }

  /** Closes the present connection. The channels wait for the next one. */
  #closePeer() {
    for (const channel of this.#allChannels) channel.detach();
    for (const track of this.remoteStream?.getTracks() ?? []) this.remoteStream.removeTrack(track);
    this.#previousPeer = this.#peer ?? this.#previousPeer;
    this.#peer = this.#channelPeer = null;
    this.#previousPeer?.close();
  }

  get #allChannels() {
    return [...this.#channel ? [this.#channel] : [], ...this.#channels.values()];
  }

  /**
   * Creates the peer connection of this generation. Returns null if it is not needed any more.
   * @param {number} limit milliseconds that the call has to connect
   */
  async #connect(limit) {
    const generation = this.#generation;
    this.#closePeer();
    if (!this.#isConnected) this.#setTimer(limit, () => this.#end('local'));
    const early = this.#early && Date.now() - this.#early.at < FRESH_TIME ? this.#early.servers : null;
    const iceServers = await (early ?? this.#fetchIceServers());
    if (this.#state === 'closed' || generation !== this.#generation) return null;
    const {iceTransportPolicy, createConnection} = this.#options;
    const peer = new Peer({
      call: this.#id, polite: this.#role === 'caller', twoWay: true, send: signal => this.#send({...signal, g: generation}),
      iceServers, fetchIceServers: () => this.#fetchIceServers(), iceTransportPolicy, connect: createConnection,
    });
    this.#peer = peer;
    peer.addEventListener('state', () => peer === this.#peer && this.#onPeerState(peer));
    peer.addEventListener('track', ({detail}) => this.#onTrack(peer, detail.track));
    peer.addEventListener('datachannel', ({detail}) => peer === this.#peer && this.#onChannel(detail));
    peer.addEventListener('error', ({detail}) => this.#emit('error', detail));
    peer.addEventListener('path', ({detail}) => {
      this.#line.inbox.maxRetryDelay = peer.relayed ? RELAYED_RETRY_DELAY : MAX_RETRY_DELAY;
      this.#emit('path', detail);
    });
    return peer;
  }

  async #fetchIceServers() {
    return this.#options.iceServers ?? await this.#iceServers.fetch();
  }

  /**
   * Opens the channel that each call has, which both sides create without a message, and those
   * that this side has created.
   * @param {Peer} peer
   */
  #openChannels(peer) {
    this.#channelPeer = peer;
    const channel = peer.createDataChannel('data', {negotiated: true, id: 0});
    for (const [protocol, created] of this.#channels) {
      if (protocol.startsWith(PROTOCOL + this.#role)) created.attach(peer.createDataChannel(created.label, {protocol}));
    }
    if (this.#channel) return this.#channel.attach(channel);
    this.#channel = this.#newChannel(channel, () => this.#onChannelLost());
    this.#channel.addEventListener('open', () => this.#peer && this.#onPeerState(this.#peer));
    this.#channel.addEventListener('close', () => this.#isConnected && this.#onChannelClosed());
  }

  /** Handles the end of the first channel by one side. The other one knows of it, if the connection works. */
  #onChannelClosed() {
    this.#end(this.#closing ? 'local' : 'remote', undefined, this.#state === 'connected' ? '' : 'closed');
  }

  /**
   * @param {RTCDataChannel | undefined} channel
   * @param {() => void} onLost
   * @param {string} [label]
   */
  #newChannel(channel, onLost, label) {
    return new DataChannel(channel, {maxMessageBytes: this.#options.maxMessageBytes, onLost, label});
  }

  /**
   * @param {string} protocol
   * @param {RTCDataChannel | undefined} channel without one, the channel waits for a connection
   * @param {string} label
   */
  #addChannel(protocol, channel, label) {
    const added = this.#newChannel(channel, () => {}, label);
    this.#channels.set(protocol, added);
    added.addEventListener('close', () => this.#channels.delete(protocol));
    return added;
  }

  /** @param {RTCDataChannel} channel that the remote peer has created */
  #onChannel(channel) {
    const {protocol} = channel;
    if (!protocol.startsWith(PROTOCOL)) return; // for a listener of the peer
    const known = this.#channels.get(protocol);
    const isOwn = protocol.startsWith(PROTOCOL + this.#role);
    if (isOwn || protocol.length > MAX_PROTOCOL_LENGTH || (!known && this.#channels.size >= MAX_CHANNELS)) channel.close();
    else if (known) known.attach(channel);
    else this.#emit('channel', this.#addChannel(protocol, channel, channel.label));
  }

  /**
   * A track that the remote peer does not send stays muted.
   * @param {Peer} peer
   * @param {MediaStreamTrack} track
   */
  #onTrack(peer, track) {
    const stream = this.remoteStream;
    this.#remoteKinds.add(track.kind);
    const onMedia = () => {
      if (peer !== this.#peer) return;
      stream.addTrack(track);
      this.#emit('track', {track, stream});
    };
    if (track.muted) track.addEventListener('unmute', onMedia, {once: true});
    else onMedia();
  }

  /** @param {Peer} peer */
  #onPeerState({state}) {
    if (state === 'reconnecting' && this.#state === 'connected') this.#onLost(RENEW_DELAY);
    if (state !== 'connected' || this.#channel?.readyState !== 'open') return;
    if (!this.#isConnected) this.#onConnected();
    else if (this.#state === 'reconnecting') void this.#verify();
  }

  #onConnected() {
    this.#isConnected = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#renewTimer);
    this.#setState('connected');
    this.#settle.resolve(true);
  }

  /** Checks that data arrives again: in Firefox, the channels of a path that was dead for long can remain dead. */
  async #verify() {
    const peer = this.#peer;
    const works = await this.#channel?.ping(PING_TIME);
    if (works && this.#state === 'reconnecting' && peer === this.#peer && peer?.state === 'connected') this.#onConnected();
  }

  /**
   * Calls a function after a time, or later while the server does not respond: signals wait then.
   * @param {number} limit milliseconds
   * @param {() => void} onEnd
   */
  #setTimer(limit, onEnd) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (!this.#isConnected && this.#line.inbox.status === 'retrying') this.#setTimer(limit, onEnd);
      else onEnd();
    }, limit);
  }

  /** Sends a signal after those before it. @param {(Signal & {g: number}) | {call: string, renew: number}} signal */
  #send(signal) {
    const sealed = this.#seal(signal);
    this.#sealing = this.#sealing.then(async () => {
      const message = await sealed;
      this.#line.inbox.send(this.#remote, message, {wait: Infinity, signal: this.#signaling.signal}).catch(error => {
        if (!this.#isConnected) this.#end('local', error);
      });
    }).catch(error => this.#emit('error', error));
  }

  /**
   * Encrypts a message, if the call has a sealer.
   * @param {{call: string, [name: string]: unknown}} message
   */
  async #seal(message) {
    const {sealer} = this.#options;
    if (!sealer) return message;
    const context = {from: this.#line.inbox.name, to: this.#remote, call: message.call, direction: this.#role};
    return {call: message.call, sealed: await sealer.seal(message, context)};
  }

  /**
   * Decrypts a message. One that refuses the call is not encrypted if the other side has another key.
   * @param {any} data
   * @param {string} call
   * @param {Role} sender
   */
  async #open(data, call, sender) {
    const {sealer} = this.#options;
    if (!data.sealed && (!sealer || (data.bye && !this.#isConnected))) return data;
    if (!sealer) throw new InboxError('unreadable', 'the remote peer encrypts its signals, and this one does not');
    const context = {from: this.#remote, to: this.#line.inbox.name, call, direction: sender};
    const message = await sealer.open(data.sealed, context).catch(cause => {
      throw new InboxError('unreadable', `a signal of the remote peer was refused: ${cause.message}`, {cause});
    });
    if (message?.call !== call) throw new InboxError('unreadable', 'the signal names another call than its envelope');
    return message;
  }

  async #prepareBye() {
    const id = this.#id;
    const bye = await this.#seal({call: id, bye: 'closed'}).catch(() => null);
    if (id === this.#id) this.#bye = bye;
  }

  #listen() {
    const {inbox} = this.#line;
    const onConnection = (/** @type {CustomEvent<string>} */ {detail}) => this.#peer?.setSignaling(detail === 'restored');
    const onStatus = (/** @type {CustomEvent<string>} */ {detail}) => detail === 'open' && this.#peer?.setSignaling(true); // taken back
    const onSuperseded = () => {
      if (this.#isConnected) this.#peer?.setSignaling(false);
      else this.#end('local', new InboxError('superseded', 'another client of this mailbox was started'));
    };
    const onHide = () => {
      if (this.#isKnown && this.#bye) inbox.sendLast(this.#remote, this.#bye);
      this.#line.remove(this.#id, this.#remote, null);
      this.#end('local', new InboxError('closed', 'the page was closed'));
    };
    inbox.addEventListener('connection', onConnection);
    inbox.addEventListener('status', onStatus);
    inbox.addEventListener('superseded', onSuperseded);
    globalThis.addEventListener?.('pagehide', onHide);
    this.#unlisten = () => {
      inbox.removeEventListener('connection', onConnection);
      inbox.removeEventListener('status', onStatus);
      inbox.removeEventListener('superseded', onSuperseded);
      globalThis.removeEventListener?.('pagehide', onHide);
    };
  }

  /**
   * Ends the call, and tells the remote peer so unless it has ended it.
   * @param {CloseReason} reason
   * @param {unknown} [error] why it was not connected; without one, another attempt is due
   * @param {'closed'|'declined'|'unreadable'|''} [bye] '' if the remote peer knows it
   */
  #end(reason, error, bye = 'closed') {
    if (this.#state === 'closed') return;
    clearTimeout(this.#timer);
    clearTimeout(this.#renewTimer);
    this.#unlisten();
    this.#ringing.abort();
    this.#signaling.abort();
    this.#setState('closed');
    for (const channel of this.#allChannels) channel.abort();
    this.#peer?.close();
    if (error === undefined) this.#settle.resolve(false);
    else this.#settle.reject(error);
    this.#resolveClosed(reason);
    void this.#sendBye(reason, bye);
  }

  /** Whether the remote peer can know of the call. */
  get #isKnown() {
    return this.#rang || this.#role === 'callee';
  }

  /**
   * @param {CloseReason} reason
   * @param {string} bye
   */
  async #sendBye(reason, bye) {
    const {inbox} = this.#line;
    if (bye && reason !== 'remote' && this.#isKnown && inbox.status === 'open') {
      const message = bye === 'unreadable' ? {call: this.#id, bye} : await this.#seal({call: this.#id, bye}).catch(() => null);
      let timer;
      const limit = new Promise(resolve => { timer = setTimeout(resolve, BYE_TIME); });
      await Promise.race([inbox.send(this.#remote, message).catch(() => {}), limit]); // it can have gone
      clearTimeout(timer);
    }
    this.#line.remove(this.#id, this.#remote, this.#bye);
  }

  /** @param {CallState} state */
  #setState(state) {
    if (this.#state === state) return;
    this.#state = state;
    this.#emit('state', state);
  }

  /**
   * @param {keyof CallEvents} type
   * @param {unknown} detail
   */
  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, {detail}));
  }
}
