/**
 * ChannelCall is a Call whose data channels have messages of any size, see data-channel.js, and
 * that can have more of them. They continue without a loss when the connection does
 * not recover: another one replaces it, a new *generation* of the call, whose number `g` its
 * signals have. The callee makes its offer; the caller asks for it with {call, renew: g}. Both
 * sides need this module to replace a connection, and for messages of more than one frame.
 */

import {MAX_MESSAGE_BYTES} from './channel.js';
import {InboxError, MAX_RETRY_DELAY} from './codec.js';
import {DataChannel} from './data-channel.js';
import {emit, on} from './events.js';
import {Call, firstChannel} from './peer-call.js';

/** Milliseconds before another connection replaces one that ICE does not restore, or whose channel has closed, and between two such attempts. */
const RENEW_DELAY = 12_000;
const CLOSED_RENEW_DELAY = 1_000;
const RENEW_INTERVAL = 15_000;
/** Milliseconds after which a remote peer that has closed its connection has left. A page that closes cannot always say so. */
const LEFT_TIME = 15_000;
/** Milliseconds that a call has to send the rest when it is closed. */
const CLOSE_TIME = 10_000;
/** Milliseconds in which the data channel must answer when the path is connected again. */
const PING_TIME = 10_000;
/** Maximum number of connections of a call. */
const MAX_GENERATION = 1e6;
/** Maximum milliseconds before a request is retried during a relayed call, whose relay is usually a part of the server. */
const RELAYED_RETRY_DELAY = 2_000;
/** Maximum number of data channels that the remote peer can create. */
const MAX_CHANNELS = 64;
/** How many of the largest messages the channels hold together, in parts or without a listener. */
const MEMORY_MESSAGES = 8;
/** How the subprotocol of a channel begins that this module creates. The rest identifies the channel. */
const PROTOCOL = 'inbox.1.';
/** Maximum number of characters of a subprotocol. */
const MAX_PROTOCOL_LENGTH = 64;

/**
 * @typedef {import('./peer.js').Peer} Peer
 */

/**
 * ChannelCall has two more events, with a `detail`:
 * - path: 'direct' or 'relayed', when it changes; with a WatchedPeer
 * - channel: a {@link DataChannel} that the remote peer has created
 */
export class ChannelCall extends Call {
  /** The channels but the first one, by their subprotocols. @type {Map<string, DataChannel>} */
  #channels = new Map();
  #created = 0;
  /** What the remote peer fills. */
  #memory = {used: 0, limit: 0};
  /** The data channel that each call has. @type {DataChannel} @override */
  channel = /** @type {any} */ (undefined);
  /** The present one, when it has the channels of the call. @type {Peer | null} */
  #channelPeer = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #renewTimer;
  /** Whether the remote peer can replace a connection too: its signals have a number then. */
  #canRenew = false;

  /**
   * Creates another data channel. The remote peer gets the event `channel`. Throws an InboxError
   * `closed`.
   * @param {string} label
   * @returns {DataChannel}
   */
  createChannel(label) {
    if (this.closing || this.state === 'closed') throw new InboxError('closed', 'the call is closed');
    const protocol = `${this.#protocol}${++this.#created}`;
    return this.#addChannel(protocol, this.#channelPeer?.connection.createDataChannel(label, {protocol}), label);
  }

  /** How the subprotocols of the channels of this side begin. */
  get #protocol() {
    return PROTOCOL + this.role;
  }

  /** Closes the first channel last: its end is that of the call on the other side. @override @internal */
  async closeChannels() {
    const isOpen = this.state === 'connected';
    const limit = setTimeout(() => this.end('local'), CLOSE_TIME);
    await Promise.all([...this.#channels.values()].map(channel => (isOpen || channel.bufferedAmount ? channel.close() : undefined)));
    await super.closeChannels();
    clearTimeout(limit);
  }

  /** @override @param {any} message @internal */
  async onSignal(message) {
    this.#canRenew ||= message.g !== undefined;
    if (message.renew) return this.#onRenew(message.renew);
    const {generation, role} = this;
    const {g = 0} = message;
    if (this.#hasPeer && g === generation) return void this.peer.receive(message);
    const isNew = role === 'caller' && isGeneration(g) && message.description?.type === 'offer' && g >= generation;
    if (!isNew) return;
    this.generation = g;
    this.#loseFor(RENEW_INTERVAL);
    await this.connectPeer(message);
  }

  /** @override @param {Record<string, unknown>} signal @internal */
  send(signal) {
    super.send({g: this.generation, ...signal});
  }

  /** @param {unknown} generation that the caller asks for */
  #onRenew(generation) {
    if (this.role !== 'callee' || !isGeneration(generation) || generation <= this.generation || !this.#hasPeer) return;
    this.generation = generation;
    this.#loseFor(RENEW_INTERVAL);
    void this.connectPeer();
  }

  /** Replaces the connection, unless that of the remote peer is the only one that it can have. */
  #renew() {
    if (this.state !== 'reconnecting' || !this.#canRenew) return;
    this.#renewTimer = setTimeout(() => this.#renew(), RENEW_INTERVAL);
    if (this.inbox.status !== 'open') return;
    if (this.role === 'caller') return this.send({renew: this.generation + 1});
    this.generation++;
    void this.connectPeer();
  }

  /**
   * Notes that the connection was lost.
   * @param {number} delay milliseconds before another one replaces it
   */
  #loseFor(delay) {
    if (!this.isConnected || this.state === 'closed') return;
    clearTimeout(this.#renewTimer);
    this.#renewTimer = setTimeout(() => this.#renew(), delay);
    if (this.state !== 'reconnecting') super.onLost();
  }

  /** @override @internal */
  onLost() {
    this.#loseFor(RENEW_DELAY);
  }

  /** Handles the end of the first channel, without a word of the remote peer. Firefox also closes it when ICE fails. */
  #onChannelLost() {
    if (!this.#canRenew) return super.onChannelClosed();
    const hasClosed = this.peer.state === 'connected';
    this.#loseFor(CLOSED_RENEW_DELAY);
    if (hasClosed && this.state === 'reconnecting') this.setTimer(LEFT_TIME, () => this.end('remote'));
  }

  /** Closes the present connection. The channels wait for the next one. */
  #closePeer() {
    for (const channel of this.#allChannels) channel.detach();
    for (const track of this.remoteStream?.getTracks() ?? []) this.remoteStream.removeTrack(track);
    this.#channelPeer = null;
    this.peer?.close(); // and stays, while there is no other one
  }

  /** Whether the connection of this generation exists. */
  get #hasPeer() {
    return this.peer && this.peer.state !== 'closed';
  }

  /** @override @param {import('./peer.js').Signal} [offer] @internal */
  connectPeer(offer) {
    this.#closePeer();
    return super.connectPeer(offer);
  }

  /**
   * Opens the first channel, and those that this side has created.
   * @override
   * @param {Peer} peer
   * @internal
   */
  openChannels(peer) {
    this.#channelPeer = peer;
    on(peer.connection, 'datachannel', ({channel}) => peer === this.peer && this.#onChannel(channel));
    on(peer, 'path', ({detail}) => {
      this.inbox.maxRetryDelay = detail === 'relayed' ? RELAYED_RETRY_DELAY : MAX_RETRY_DELAY;
      emit(this, 'path', detail);
    });
    if (this.channel) this.channel.attach(peer.connection.createDataChannel('data', firstChannel));
    else super.openChannels(peer);
    for (const [protocol, created] of this.#channels) {
      if (protocol.startsWith(this.#protocol)) created.attach(peer.connection.createDataChannel(created.label, {protocol}));
    }
  }

  /** @param {RTCDataChannel} channel that the remote peer has created */
  #onChannel(channel) {
    const {protocol} = channel;
    if (!protocol.startsWith(PROTOCOL)) return; // for a listener of the peer
    const known = this.#channels.get(protocol);
    const isOwn = protocol.startsWith(this.#protocol);
    if (isOwn || protocol.length > MAX_PROTOCOL_LENGTH || (!known && this.#channels.size >= MAX_CHANNELS)) channel.close();
    else if (known) known.attach(channel);
    else emit(this, 'channel', this.#addChannel(protocol, channel, channel.label));
  }

  /**
   * @param {string} protocol
   * @param {RTCDataChannel | undefined} channel without one, the channel waits for a connection
   * @param {string} label
   */
  #addChannel(protocol, channel, label) {
    const added = new DataChannel(channel, {...this.#channelOptions, onLost: () => {}, label});
    this.#channels.set(protocol, added);
    on(added, 'close', () => this.#channels.delete(protocol));
    return added;
  }

  get #allChannels() {
    return [...this.channel ? [this.channel] : [], ...this.#channels.values()];
  }

  /** @override @param {RTCDataChannel} channel @internal */
  newChannel(channel) {
    return new DataChannel(channel, {...this.#channelOptions, onLost: () => this.#onChannelLost()});
  }

  get #channelOptions() {
    const {maxMessageBytes = MAX_MESSAGE_BYTES} = this.options;
    this.#memory.limit = MEMORY_MESSAGES * maxMessageBytes;
    return {maxMessageBytes, memory: this.#memory};
  }

  /** @override @internal */
  onChannelClosed() {
    this.end(this.closing ? 'local' : 'remote', undefined, this.state === 'connected' ? '' : 'closed');
  }

  /** @override @param {Peer} peer @internal */
  onPeerState(peer) {
    if (this.state !== 'reconnecting' || peer.state !== 'connected') super.onPeerState(peer);
    else if (this.channel.readyState === 'open') void this.#verify(peer);
  }

  /** Checks that data arrives again: in Firefox, the channels of a path that was dead for long can remain dead. @param {Peer} peer */
  async #verify(peer) {
    const works = await this.channel.ping(PING_TIME);
    if (works && this.state === 'reconnecting' && peer === this.peer && peer.state === 'connected') this.onConnected();
  }

  /** @override @internal */
  onConnected() {
    clearTimeout(this.#renewTimer);
    super.onConnected();
  }

  /** @override @param {Parameters<Call['end']>} reason @internal */
  end(...reason) {
    clearTimeout(this.#renewTimer);
    if (this.state !== 'closed') for (const channel of this.#channels.values()) channel.abort();
    super.end(...reason);
  }
}

/** @param {unknown} generation any value that arrived @returns {generation is number} */
function isGeneration(generation) {
  return Number.isInteger(generation) && Number(generation) <= MAX_GENERATION;
}
