/**
 * One call of connect.js: its signals, its peer connection and its data channels.
 *
 * channel-call.js replaces a connection that does not recover. Its signals have the number `g` of
 * their connection. A call of this module has one, with the number 0, and sends none.
 */

import {Channel} from './channel.js';
import {InboxError} from './codec.js';
import {StatefulTarget, defer, emit, on, onAbort, pause, serial, until} from './events.js';
import {requestIce} from './ice-list.js';
import {Peer} from './peer.js';

/** Milliseconds between two rings. The mailbox of a callee that has left takes them for a while. */
const RING_INTERVAL = 5_000;
/** Milliseconds that a call has to connect, for the caller and for the callee. The caller then makes another one. */
const CALLER_TIME = 15_000;
const CALLEE_TIME = 30_000;
/** Milliseconds after which a call that does not recover is lost, or a caller is declined that the application has not accepted. */
const LOST_TIME = 120_000;
/** Milliseconds that a last message has before the mailbox is closed. */
const BYE_TIME = 2_000;

/** The data channel that each call has: both sides create it without a message. */
export const firstChannel = {negotiated: true, id: 0};

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
 *   channel: CustomEvent<import('./data-channel.js').DataChannel>, path: CustomEvent<'direct'|'relayed'>, error: CustomEvent<any>}} CallEvents
 *
 * @typedef {object} Line the mailbox of the call, see connect.js
 * @property {Inbox} inbox
 * @property {(id: string, call: Call) => void} add
 * @property {(id: string) => void} remove
 */

/**
 * Call is a call that is connected. Events, all with a `detail`:
 * - state: the new {@link CallState}
 * - track: {track, stream} when media of a remote track arrives; `stream` is remoteStream
 * - error: an Error during negotiation; the call can continue
 */
export class Call extends /** @type {import('./events.js').TypedStateful<CallState, CallEvents>} */ (/** @type {unknown} */ (StatefulTarget)) {
  /** The remote tracks whose media has arrived. */
  remoteStream = globalThis.MediaStream && new MediaStream();
  /** The id of the call, which both sides know. */
  id;
  /** The name of the mailbox of the remote peer. */
  remote;
  /** The mailbox of this side. */
  inbox;
  /** @internal */
  role;
  /** @internal */
  options;
  /** @internal */
  isConnected = false;
  /** The number of the connection. @internal */
  generation = 0;
  /** The peer connection. @type {Peer} */
  peer = /** @type {any} */ (undefined);
  /** The data channel that each call has. @type {Channel} */
  channel = /** @type {any} */ (undefined);
  /** Settles when the call is closed, after a call of close. @type {Promise<void> | null} @internal */
  closing = null;
  /** @type {ReturnType<typeof defer<CloseReason>>} */
  #closed = defer();
  /** Resolves when the call is closed. @type {Promise<CloseReason>} */
  closed = this.#closed.promise;
  /** @type {ReturnType<typeof defer<boolean>>} */
  #connected = defer();
  /** Settles when the call is connected, with false if this attempt has failed. @internal */
  connected = this.#connected.promise;
  /** What this side sends, null for a kind that it only receives. @type {Map<Kind, MediaStreamTrack | null>} */
  #tracks = new Map();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** Whether a ring was sent, or has arrived. */
  #rang = false;
  /** Ends the rings. */
  #ringing = new AbortController();
  /** Ends the listeners, and the signals that are being sent. */
  #scope = new AbortController();
  #seals = serial();
  #receives = serial();
  /** The servers that were fetched last. @type {Promise<RTCIceServer[]>} */
  #iceServers = Promise.resolve([]);
  #line;

  /**
   * @param {Line} line
   * @param {string} id
   * @param {string} remote
   * @param {Role} role
   * @param {import('./connect.js').AnswerOptions<any>} options
   * @internal
   */
  constructor(line, id, remote, role, options) {
    super();
    this.id = id;
    this.remote = remote;
    this.inbox = line.inbox;
    this.role = role;
    this.options = options;
    this.#line = line;
    this.connected.catch(() => {}); // handled by dial, or by the listener
    line.add(id, this);
    this.#addTracks(options.stream);
    on(this.inbox, 'status', ({detail}) => this.peer?.setSignaling(detail === 'open'), this.#scope.signal);
    this.#prepareBye();
  }

  /**
   * Sends a track in place of the previous one of its kind; null stops sending.
   * @param {Kind} kind
   * @param {MediaStreamTrack | null} track
   */
  async setTrack(kind, track) {
    this.#tracks.set(kind, track);
    await this.peer?.setTrack(kind, track);
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
    return this.closing ??= this.closeChannels().then(() => this.end('local'));
  }

  /** @internal */
  async closeChannels() {
    if (this.state === 'connected' || this.channel?.bufferedAmount) await this.channel?.close();
  }

  /**
   * Rings until the call is connected. Resolves to false if another attempt is due.
   * @param {AbortSignal} [signal]
   * @returns {Promise<boolean>}
   * @internal
   */
  dial(signal) {
    return until((/** @type {(connected: boolean) => void} */ resolve, reject, scope) => {
      onAbort(signal, reason => this.end('local', reason), scope);
      this.connected.then(resolve, reject);
      void this.#ring();
    });
  }

  async #ring() {
    const {signal} = this.#ringing;
    const ring = {call: this.id, ring: [...this.#tracks.keys()]};
    try {
      while (!signal.aborted) {
        await this.inbox.send(this.remote, await this.#seal(ring), {wait: Infinity, signal});
        this.#rang = true;
        void this.#fetchIceServers();
        await pause(RING_INTERVAL, signal);
      }
    } catch (error) {
      if (!signal.aborted) this.end('local', error);
    }
  }

  /**
   * Declines a call that is not connected.
   * @internal
   */
  decline() {
    this.end('local', undefined, 'declined');
  }

  /**
   * Handles the first message of a call from the mailbox that this call rings. The call with the
   * smaller id remains.
   * @param {{call: string}} data
   * @internal
   */
  cross(data) {
    if (this.role === 'callee' || this.peer || data.call > this.id) return;
    this.#receives(async () => {
      const message = await this.#open(data, 'caller');
      if (!message.ring || this.role === 'callee' || this.state === 'closed') return;
      this.#line.add(data.call, this);
      this.#line.remove(this.id);
      this.id = data.call;
      this.role = 'callee';
      this.#rang = true;
      this.#prepareBye();
      this.#expect(message.ring);
      await this.connectPeer();
    }).catch(() => {}); // not a message of a call
  }

  /**
   * Handles a message of the remote peer. The first one of a caller must be a ring.
   * @param {any} data any value that arrived
   * @internal
   */
  receive(data) {
    this.#receives(() => this.#onMessage(data)).catch(error => {
      if (this.role === 'callee' && !this.#rang) this.end('local', error, 'unreadable');
      else emit(this, 'error', error);
    });
  }

  /** @param {any} data */
  async #onMessage(data) {
    const message = await this.#open(data, this.role === 'caller' ? 'callee' : 'caller');
    if (this.state === 'closed') return;
    const {bye} = message;
    if (bye) {
      const isRefused = !this.isConnected && this.role === 'caller' && (bye === 'declined' || bye === 'unreadable');
      return this.end('remote', isRefused ? new InboxError(bye) : undefined);
    }
    if (message.ring) return void this.#onRing(message.ring);
    if (this.role === 'callee' && !this.#rang) return this.end('remote'); // late
    await this.onSignal(message);
  }

  /** @param {any} message @internal */
  async onSignal(message) {
    if (message.g) return;
    if (this.peer) void this.peer.receive(message);
    else if (this.role === 'caller' && message.description?.type === 'offer') await this.connectPeer(message);
  }

  /** Asks the application. It has some time to answer. @param {unknown} ring */
  async #onRing(ring) {
    if (this.role === 'caller' || this.#rang) return;
    this.#rang = true;
    this.setTimer(LOST_TIME, () => this.decline());
    try {
      const choice = await this.options.accept?.(this.remote);
      if (this.state === 'closed') return;
      if (!choice) return this.decline();
      if (choice !== true) this.options = {...this.options, ...choice};
    } catch (error) {
      return this.end('local', error, 'declined');
    }
    this.#addTracks(this.options.stream);
    this.#expect(ring);
    await this.connectPeer();
  }

  /** @param {MediaStream} [stream] */
  #addTracks(stream) {
    for (const track of stream?.getTracks() ?? []) this.#tracks.set(/** @type {Kind} */ (track.kind), track);
  }

  /** Notes which kinds the remote peer sends. @param {unknown} list any value that arrived */
  #expect(list) {
    for (const kind of kinds) if ([list].flat().includes(kind)) this.#tracks.set(kind, this.#tracks.get(kind) ?? null);
  }

  /**
   * Creates the peer connection, and makes the offer of the callee, with the tracks of both sides, or answers it.
   * @param {Signal} [offer]
   * @internal
   */
  async connectPeer(offer) {
    try {
      this.#ringing.abort();
      if (!this.isConnected) this.setTimer(offer ? CALLER_TIME : CALLEE_TIME, () => this.end('local'));
      const {generation, role, options: {iceTransportPolicy, createConnection, Peer: PeerClass = Peer}} = this;
      const iceServers = await (offer && !this.isConnected ? this.#iceServers : this.#fetchIceServers());
      if (this.state === 'closed' || generation !== this.generation) return;
      const peer = this.peer = new PeerClass({
        call: this.id, polite: role === 'caller', send: signal => this.send(signal),
        iceServers, fetchIceServers: () => this.#fetchIceServers(), iceTransportPolicy, connect: createConnection,
      });
      on(peer, 'state', () => peer === this.peer && this.onPeerState(peer));
      on(peer, 'track', ({detail}) => this.#onTrack(peer, detail.track));
      on(peer, 'error', ({detail}) => emit(this, 'error', detail));
      for (const [kind, track] of this.#tracks) void peer.setTrack(kind, track);
      if (offer) await peer.receive(offer);
      if (peer === this.peer) this.openChannels(peer);
    } catch (error) {
      if (this.isConnected) emit(this, 'error', error);
      else this.end('local', error);
    }
  }

  /** Fetches new servers, because credentials expire, or keeps the last ones. */
  #fetchIceServers() {
    const last = this.#iceServers;
    return this.#iceServers = (async () => this.options.iceServers ?? (await requestIce(this.inbox)).iceServers ?? last)().catch(() => last);
  }

  /**
   * Opens the channel that each call has, which both sides create without a message.
   * @param {Peer} peer
   * @internal
   */
  openChannels(peer) {
    this.channel = this.newChannel(peer.connection.createDataChannel('data', firstChannel));
    on(this.channel, 'open', () => this.onPeerState(this.peer));
    on(this.channel, 'close', () => this.isConnected && this.onChannelClosed());
  }

  /** Handles the end of the first channel by one side. The other one knows of it, if the connection works. @internal */
  onChannelClosed() {
    const isLost = this.state === 'reconnecting';
    this.end(this.closing ? 'local' : isLost ? 'lost' : 'remote', undefined, isLost ? 'closed' : '');
  }

  /** @param {RTCDataChannel} channel @returns {Channel} @internal */
  newChannel(channel) {
    return new Channel(channel);
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
      if (peer !== this.peer) return;
      stream.addTrack(track);
      emit(this, 'track', {track, stream});
    };
    if (track.muted) track.addEventListener('unmute', onMedia, {once: true});
    else onMedia();
  }

  /** @param {Peer} peer @internal */
  onPeerState({state}) {
    if (state === 'reconnecting' && this.state === 'connected') this.onLost();
    if (state === 'connected' && this.channel?.readyState === 'open') this.onConnected();
  }

  /** Notes that the connection was lost. @internal */
  onLost() {
    this.setState('reconnecting');
    this.setTimer(LOST_TIME, () => this.end('lost'));
  }

  /** @internal */
  onConnected() {
    this.isConnected = true;
    clearTimeout(this.#timer);
    this.setState('connected');
    this.#connected.resolve(true);
  }

  /**
   * Calls a function after a time, in place of the last one.
   * @param {number} limit milliseconds
   * @param {() => void} onEnd
   * @internal
   */
  setTimer(limit, onEnd) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(onEnd, limit);
  }

  /** Sends a signal after those before it. @param {Record<string, unknown>} signal @internal */
  send(signal) {
    this.#seals(async () => {
      const message = await this.#seal({call: this.id, ...signal});
      this.inbox.send(this.remote, message, {wait: Infinity, signal: this.#scope.signal}).catch(error => {
        if (!this.isConnected) this.end('local', error);
      });
    }).catch(error => emit(this, 'error', error));
  }

  /**
   * Encrypts a message, if the call has a sealer.
   * @param {{call: string, [name: string]: unknown}} message
   */
  async #seal(message) {
    return this.options.sealer?.sealCall(message, this) ?? message;
  }

  /**
   * Decrypts a message.
   * @param {any} data
   * @param {Role} sender
   */
  async #open(data, sender) {
    const {sealer} = this.options;
    if (sealer) return sealer.openCall(data, this, sender);
    if (data.sealed) throw new InboxError('unreadable');
    return data;
  }

  /** Encrypts the last message early, because a page that closes has no time. */
  #prepareBye() {
    this.#seal({call: this.id, bye: 'closed'}).then(bye => {
      on(globalThis, 'pagehide', () => this.inbox.sendLast(this.remote, bye), this.#scope.signal);
    }, () => {});
  }

  /**
   * Ends the call, and tells the remote peer so unless it has ended it.
   * @param {CloseReason} reason
   * @param {unknown} [error] why it was not connected; without one, another attempt is due
   * @param {'closed'|'declined'|'unreadable'|''} [bye] '' if the remote peer knows it
   * @internal
   */
  end(reason, error, bye = 'closed') {
    if (this.state === 'closed') return;
    clearTimeout(this.#timer);
    this.#ringing.abort();
    this.#scope.abort();
    this.setState('closed');
    this.channel?.abort();
    this.peer?.close();
    if (error === undefined) this.#connected.resolve(false);
    else this.#connected.reject(error);
    this.#closed.resolve(reason);
    void this.#sendBye(reason === 'remote' ? '' : bye).catch(() => {}).then(() => this.#line.remove(this.id)); // it can have gone
  }

  /** @param {string} bye '' to send none */
  async #sendBye(bye) {
    if (!bye || this.inbox.status !== 'open' || (this.role === 'caller' && !this.#rang)) return;
    const message = {call: this.id, bye};
    await this.inbox.send(this.remote, bye === 'closed' ? await this.#seal(message) : message, {signal: AbortSignal.timeout(BYE_TIME)});
  }
}
