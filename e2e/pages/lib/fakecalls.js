/** Mailboxes and peer connections in memory, for calls of connect.js without a browser. */

import {ChannelCall} from '../../../public/channel-call.js';
import {Inbox} from '../../../public/inbox.js';
import {WatchedPeer} from '../../../public/watched-peer.js';
import {FakeConnection} from './fakeconnection.js';

/** @type {Map<string, FakeMailbox>} */
const mailboxes = new Map();
/** @type {FakeMailbox[]} */
let opened = [];

/** FakeMailbox delivers to the others in a later task. */
export class FakeMailbox extends Inbox {
  /** The messages that were sent. @type {{to: string, data: any}[]} */
  sent = [];
  /** The connections of its calls. @type {FakeConnection[]} */
  connections = [];
  /** @type {import('../../../public/inbox.js').Status} */
  fakeStatus = 'open';
  /** Whether messages are lost. */
  cut = false;

  /** @param {string} name */
  constructor(name) {
    super('https://example.org/inbox', {name, password: 'secret'});
    mailboxes.set(name, this);
    opened.push(this);
  }

  /** @override */
  get status() {
    return this.fakeStatus;
  }

  /** @override */
  async start() {
    return true;
  }

  /** @override @param {string} to @param {any} data @param {{signal?: AbortSignal | undefined}} [options] */
  async send(to, data, {signal} = {}) {
    signal?.throwIfAborted();
    this.sent.push({to, data});
    if (this.cut) return;
    await new Promise(resolve => setTimeout(resolve, 0));
    mailboxes.get(to)?.deliver(this.name, data);
  }

  /** @param {string} from @param {any} data */
  deliver(from, data) {
    const detail = {from, id: '', type: '', data: structuredClone(data)};
    this.dispatchEvent(new CustomEvent('message', {detail}));
  }

  /** The options of its calls, with all parts. */
  get options() {
    return {
      Call: ChannelCall, Peer: WatchedPeer,
      iceServers: [],
      createConnection: (/** @type {RTCConfiguration} */ configuration) => {
        const connection = new FakeConnection(configuration);
        this.connections.push(connection);
        return /** @type {RTCPeerConnection} */ (/** @type {unknown} */ (connection));
      },
    };
  }

  /** @returns {FakeConnection} */
  get connection() {
    return /** @type {FakeConnection} */ (this.connections.at(-1));
  }
}

/** The page is closed: all calls end. */
export function reset() {
  for (const mailbox of opened) {
    for (const connection of mailbox.connections) connection.close();
  }
  opened = [];
  mailboxes.clear();
}

/** Connects the last connections of two mailboxes. @param {FakeMailbox} one @param {FakeMailbox} two */
export async function link(one, two) {
  await until(() => one.connection?.channels.length > 0 && two.connection?.channels.length > 0);
  const {connection: a} = one, {connection: b} = two;
  [a.peer, b.peer] = [b, a];
  for (const channel of a.channels) connect(a, channel);
  for (const channel of b.channels) connect(b, channel);
  for (const connection of [a, b]) connection.setConnectionState('connected');
}

/** @param {FakeConnection} connection @param {import('./fakechannel.js').FakeChannel} channel */
export function connect({peer}, channel) {
  if (!peer || channel.other) return;
  const {label, protocol, negotiated} = channel;
  const other = negotiated ? peer.channels.find(({other, label: name}) => !other && name === label) : peer.announce(label, protocol);
  if (!other) return;
  [channel.other, other.other] = [other, channel];
  for (const end of [channel, other]) end.open();
}

/** @param {() => unknown} isReached */
export async function until(isReached) {
  for (const deadline = Date.now() + 20_000; !isReached();) {
    if (Date.now() > deadline) throw new Error(`timeout: ${isReached}`);
    await new Promise(resolve => setTimeout(resolve, 1));
  }
}
