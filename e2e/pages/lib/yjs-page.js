/** The script of a page with a shared document. */

import {Doc} from 'yjs';
import {WebrtcProvider} from 'y-webrtc';

const doc = new Doc();
/** @type {any} */
let provider;

/** @type {any} */ (window).page = {
  /** Shares the document. @param {string} room @param {string} url @param {string} [password] */
  join(room, url, password) {
    provider = new WebrtcProvider(room, doc, {
      signaling: [url], password, filterBcConns: false, peerOpts: {config: {iceServers: []}},
    });
  },
  /** Returns whether the signaling server is connected. */
  online() {
    return provider.signalingConns.every((/** @type {any} */ {connected}) => connected);
  },
  /** Appends a line. @param {string} line */
  write(line) {
    doc.getText('notes').insert(doc.getText('notes').length, line + '\n');
  },
  /** Returns the state of the connections, for the message of a failed test. */
  state() {
    const peers = [...provider.room?.webrtcConns.values() ?? []];
    return JSON.stringify({
      signaling: provider.signalingConns.map((/** @type {any} */ {connected, unsuccessfulReconnects}) => ({connected, unsuccessfulReconnects})),
      peers: peers.map(({connected, closed, peer}) => ({connected, closed, ice: peer._pc?.iceConnectionState, signaling: peer._pc?.signalingState, initiator: peer.initiator})),
    });
  },
  /** Returns the lines, sorted. */
  lines() {
    return doc.getText('notes').toString().split('\n').filter(line => line !== '').sort();
  },
};
