/**
 * One call of connect.js: its signals, its peer connection and its data channels.
 *
 * When a connection does not recover, another one replaces it: a new *generation* of the call,
 * whose number `g` its signals have. The callee makes its offer; the caller asks for it with
 * {call, renew: g}. The data channels continue over it without a loss.
 */

import {InboxError, MAX_RETRY_DELAY, endError} from './codec.js';
import {DataChannel} from './data-channel.js';
import {after, defer, emit, on, onAbort, pause, until} from './events.js';
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
  /** The id of the call, which both sides know. */
  id;
  /** The name of the mailbox of the remote peer. */
  remote;
  /** The mailbox of this side. */
  inbox;
  /** @type {ReturnType<typeof defer<CloseReason>>} */
  #closed = defer();
  /** Resolves when the call is closed. @type {Promise<CloseReason>} */
  closed = this.#closed.promise;
  /** Settles when the call is connected, with false if this attempt has failed. @type {ReturnType<typeof defer<boolean>>} */
  #connected = defer();
  #isConnected = false;
  /** @type {CallState} */
  #state = 'connecting';
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
  /** What this side sends, null for a kind that it only receives. @type {Map<Kind, MediaStreamTrack | null>} */
  #tracks = new Map();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
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
  /** Ends the listeners, and the signals that are being sent. */
  #scope = new AbortController();
  /** Settles when the signals before are encrypted. */
  #sealing = Promise.resolve();
  #receiving = Promise.resolve();
  /** The last message, encrypted early because a page that closes has no time. @type {unknown} */
  #bye = null;
  /** Servers that are fetched while the call rings. @type {Promise<RTCIceServer[]> | null} */
  #early = null;
  #role;
  #line;
  #options;
  #iceServers;

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
    this.id = id;
    this.remote = remote;
    this.inbox = line.inbox;
    this.#line = line;
    this.#role = role;
    this.#options = options;
    this.#iceServers = new IceServers(line.inbox, options.fetch);
    this.#connected.promise.catch(() => {}); // handled by dial or pickUp
    line.add(id, this);
    this.#addTracks(options.stream);
    this.#listen();
    void this.#prepareBye();
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
    after(CLOSE_TIME, () => this.#end('local'), this.#scope.signal);
    const close = (/** @type {DataChannel | null} */ channel) => (this.#state === 'connected' || channel?.bufferedAmount ? channel?.close() : undefined);
    await Promise.all([...this.#channels.values()].map(close));
    await close(this.#channel);
    this.#end('local');
  }

  /**
   * Rings until the call is connected. Resolves to false if another attempt is due.
   * @param {AbortSignal} [signal]
   * @returns {Promise<boolean>}
   * @internal
   */
  dial(signal) {
    const {dialing} = this.#line;
    dialing.set(this.remote, this);
    return until((/** @type {(connected: boolean) => void} */ resolve, reject, scope) => {
      onAbort(signal, reason => this.#end('local', reason), scope);
      this.#connected.promise.then(resolve, reject);
      void this.#ring();
    }).finally(() => dialing.get(this.remote) === this && dialing.delete(this.remote));
  }

  async #ring() {
    const {signal} = this.#ringing;
    const ring = {call: this.id, ring: [...this.#tracks.keys()]};
    try {
      while (!signal.aborted) {
        await this.inbox.send(this.remote, await this.#seal(ring), {wait: Infinity, signal});
        this.#rang = true;
        this.#early = this.#fetchIceServers();
        await pause(RING_INTERVAL, signal);
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
    return this.#connected.promise;
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
    if (this.#role === 'caller' && (this.#peer || data.call > this.id)) return;
    this.#receiving = this.#receiving.then(async () => {
      if (data.call === this.id) return; // it rings again
      const message = await this.#open(data, data.call, 'caller');
      if (message.bye || !message.ring || this.#isConnected || this.#state === 'closed') return;
      this.#ringing.abort();
      this.#closePeer();
      this.#channel = null;
      this.#line.add(data.call, this);
      this.#line.remove(this.id, this.remote, null);
      this.id = data.call;
      this.#role = 'callee';
      this.#rang = true;
      void this.#prepareBye();
      this.#expect(message.ring);
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
    const message = await this.#open(data, this.id, this.#role === 'caller' ? 'callee' : 'caller');
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
    else emit(this, 'error', error);
  }

  /** @param {unknown} bye */
  #onBye(bye) {
    const refused = !this.#isConnected && this.#role === 'caller' && (bye === 'declined' || bye === 'unreadable');
    if (refused) this.#end('remote', new InboxError(bye, `the callee answers: ${bye}`));
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
    const choice = accept ? await accept(this.remote) : true;
    this.#accepting = false;
    if (this.#state === 'closed') return;
    if (!choice) return this.decline();
    if (choice !== true) this.#options = {...this.#options, ...choice};
    if (choice !== true) this.#addTracks(choice.stream);
    this.#expect(ring);
    await this.#offer();
  }

  /** @param {MediaStream} [stream] */
  #addTracks(stream) {
    for (const kind of kinds) {
      const track = stream?.getTracks().find(track => track.kind === kind);
      if (track) this.#tracks.set(kind, track);
    }
  }

  /** Notes which kinds the remote peer sends. @param {unknown} list any value that arrived */
  #expect(list) {
    for (const kind of kinds) if ([list].flat().includes(kind) && !this.#tracks.has(kind)) this.#tracks.set(kind, null);
  }

  /** Makes the offer of the callee, with the tracks of both sides. */
  async #offer() {
    const peer = await this.#connect(CALLEE_TIME);
    if (!peer) return;
    for (const [kind, track] of this.#tracks) void peer.setTrack(kind, track);
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
    if (this.#isConnected) emit(this, 'error', error);
    else this.#end('local', error);
  }

  /** Replaces the connection. */
  #renew() {
    if (this.#state !== 'reconnecting') return;
    this.#renewTimer = setTimeout(() => this.#renew(), RENEW_INTERVAL);
    if (this.inbox.status !== 'open') return;
    if (this.#role === 'caller') return this.#send({renew: this.#generation + 1});
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
    const iceServers = await (this.#early ?? this.#fetchIceServers());
    this.#early = null;
    if (this.#state === 'closed' || generation !== this.#generation) return null;
    const {iceTransportPolicy, createConnection} = this.#options;
    const peer = new Peer({
      call: this.id, polite: this.#role === 'caller', twoWay: true, send: signal => this.#send({...signal, g: generation}),
      iceServers, fetchIceServers: () => this.#fetchIceServers(), iceTransportPolicy, connect: createConnection,
    });
    this.#peer = peer;
    peer.addEventListener('state', () => peer === this.#peer && this.#onPeerState(peer));
    peer.addEventListener('track', ({detail}) => this.#onTrack(peer, detail.track));
    peer.addEventListener('datachannel', ({detail}) => peer === this.#peer && this.#onChannel(detail));
    peer.addEventListener('error', ({detail}) => emit(this, 'error', detail));
    peer.addEventListener('path', ({detail}) => {
      this.inbox.maxRetryDelay = peer.relayed ? RELAYED_RETRY_DELAY : MAX_RETRY_DELAY;
      emit(this, 'path', detail);
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
    else emit(this, 'channel', this.#addChannel(protocol, channel, channel.label));
  }

  /**
   * A track that the remote peer does not send stays muted.
   * @param {Peer} peer
   * @param {MediaStreamTrack} track
   */
  #onTrack(peer, track) {
    const stream = this.remoteStream;
    this.#expect(track.kind);
    const onMedia = () => {
      if (peer !== this.#peer) return;
      stream.addTrack(track);
      emit(this, 'track', {track, stream});
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
    this.#connected.resolve(true);
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
      if (!this.#isConnected && this.inbox.status === 'retrying') this.#setTimer(limit, onEnd);
      else onEnd();
    }, limit);
  }

  /** Sends a signal after those before it. @param {Record<string, unknown>} signal */
  #send(signal) {
    const sealed = this.#seal({call: this.id, ...signal});
    this.#sealing = this.#sealing.then(async () => {
      const message = await sealed;
      this.inbox.send(this.remote, message, {wait: Infinity, signal: this.#scope.signal}).catch(error => {
        if (!this.#isConnected) this.#end('local', error);
      });
    }).catch(error => emit(this, 'error', error));
  }

  /**
   * Encrypts a message, if the call has a sealer.
   * @param {{call: string, [name: string]: unknown}} message
   */
  async #seal(message) {
    const {sealer} = this.#options;
    if (!sealer) return message;
    const context = {from: this.inbox.name, to: this.remote, call: message.call, direction: this.#role};
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
    if (!sealer) throw new InboxError('unreadable', 'the remote peer encrypts its signals');
    const context = {from: this.remote, to: this.inbox.name, call, direction: sender};
    const message = await sealer.open(data.sealed, context).catch(cause => {
      throw new InboxError('unreadable', cause.message, {cause});
    });
    if (message?.call !== call) throw new InboxError('unreadable', 'the signal is of another call');
    return message;
  }

  async #prepareBye() {
    const id = this.id;
    const bye = await this.#seal({call: id, bye: 'closed'}).catch(() => null);
    if (id === this.id) this.#bye = bye;
  }

  #listen() {
    const {inbox} = this;
    const {signal} = this.#scope;
    on(inbox, 'connection', ({detail}) => this.#peer?.setSignaling(detail === 'restored'), signal);
    on(inbox, 'status', ({detail}) => detail === 'open' && this.#peer?.setSignaling(true), signal); // taken back
    on(inbox, 'superseded', () => {
      if (this.#isConnected) this.#peer?.setSignaling(false);
      else this.#end('local', endError(inbox));
    }, signal);
    on(globalThis, 'pagehide', () => {
      if (this.#isKnown && this.#bye) inbox.sendLast(this.remote, this.#bye);
      this.#line.remove(this.id, this.remote, null);
      this.#end('local', new InboxError('closed', 'the page is closed'));
    }, signal);
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
    this.#ringing.abort();
    this.#scope.abort();
    this.#setState('closed');
    for (const channel of this.#allChannels) channel.abort();
    this.#peer?.close();
    if (error === undefined) this.#connected.resolve(false);
    else this.#connected.reject(error);
    this.#closed.resolve(reason);
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
    if (bye && reason !== 'remote' && this.#isKnown && this.inbox.status === 'open') {
      const message = {call: this.id, bye};
      const sealed = bye === 'unreadable' ? message : await this.#seal(message).catch(() => null);
      await this.inbox.send(this.remote, sealed, {signal: AbortSignal.timeout(BYE_TIME)}).catch(() => {}); // it can have gone
    }
    this.#line.remove(this.id, this.remote, this.#bye);
  }

  /** @param {CallState} state */
  #setState(state) {
    if (this.#state === state) return;
    this.#state = state;
    emit(this, 'state', state);
  }
}
