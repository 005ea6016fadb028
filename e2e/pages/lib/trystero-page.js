/** The script of a page in a room. */

import {selfId} from '@trystero-p2p/core';
// @ts-ignore: the test builds it from docs/trystero.md
import {joinRoom} from 'ws-relay-of-docs';

/** @type {Set<string>} what the other peers have sent */
const greetings = new Set();
/** @type {import('@trystero-p2p/core').Room} */
let joined;

/** @type {any} */ (window).page = {
  /**
   * Joins a room, and greets each peer with its name. It repeats that, as the peer can be without a
   * handler at first, and Trystero then loses the message.
   * @param {string} room @param {string} url @param {string} [password]
   */
  join(room, url, password) {
    joined = joinRoom({appId: 'inbox-test', password, relayConfig: {urls: [url]}, rtcConfig: {iceServers: []}}, room);
    const greeting = joined.makeAction('greeting');
    greeting.onMessage = text => { greetings.add(String(text)); };
    setInterval(() => {
      for (const peer of Object.keys(joined.getPeers())) greeting.send(`${selfId} greets ${peer}`, {target: peer}).catch(() => {});
    }, 500);
    return selfId;
  },
  /** Returns the peers, for the message of a failed test. */
  state() {
    return JSON.stringify(Object.entries(joined.getPeers()).map(([peer, {connectionState}]) => ({peer, connectionState})));
  },
  /** Returns the greetings. */
  lines() {
    return [...greetings].sort();
  },
};
