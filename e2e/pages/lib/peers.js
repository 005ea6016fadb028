/** Helpers for the tests of peer.js: peers with fake connections, and an in-memory signaling channel. */

import {WatchedPeer as Peer} from '../../../public/watched-peer.js';
import {FakeConnection} from './fakeconnection.js';

/** @typedef {import('../../../public/peer.js').Signal} Signal */

/** Runs all pending promise callbacks. */
export const flushPromises = () => new Promise(resolve => setImmediate(resolve));

/**
 * Creates a peer with a fake connection, and records its signals, states and errors.
 * @param {boolean} polite
 * @param {Partial<import('../../../public/watched-peer.js').WatchedPeerOptions>} [options]
 */
export function makePeer(polite, options = {}) {
  /** @type {Signal[]} */
  const sent = [];
  /** @type {FakeConnection[]} */
  const connections = [];
  /** @type {unknown[]} */
  const errors = [];
  /** @type {string[]} */
  const states = [];
  const peer = new Peer({
    call: 'call 1', polite, twoWay: false, send: signal => sent.push(signal), iceServers: [{urls: 'stun:example.org'}],
    connect: configuration => {
      const connection = new FakeConnection(configuration);
      connections.push(connection);
      return /** @type {RTCPeerConnection} */ (/** @type {unknown} */ (connection));
    },
    ...options,
  });
  peer.addEventListener('error', event => errors.push(/** @type {CustomEvent} */ (event).detail));
  peer.addEventListener('state', event => states.push(/** @type {CustomEvent} */ (event).detail));
  return {peer, sent, connection: connections[0], errors, states};
}

/** @typedef {ReturnType<typeof makePeer>} Side */

/**
 * Delivers signals until both sides have none left.
 * @param {Side} a
 * @param {Side} b
 */
export async function exchange(a, b) {
  await flushPromises();
  while (a.sent.length + b.sent.length > 0) {
    for (const signal of a.sent.splice(0)) await b.peer.receive(signal);
    for (const signal of b.sent.splice(0)) await a.peer.receive(signal);
    await flushPromises();
  }
}

/** @param {string} kind @returns {MediaStreamTrack} */
export const track = kind => /** @type {MediaStreamTrack} */ ({kind, readyState: 'live', enabled: true, muted: false});
