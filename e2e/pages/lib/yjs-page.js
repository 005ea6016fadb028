/** The script of a page with a shared document. */

import {Doc} from 'yjs';
import {WebrtcProvider} from 'y-webrtc';

const doc = new Doc();
/** @type {any} */
let provider;
let announced = false;

/**
 * Notes when the server has returned an announcement of this page. It reaches no peer that joins
 * later, so only one of the two makes an offer.
 * @param {any} conn
 */
function watch(conn) {
  const sent = new Set();
  const send = conn.send.bind(conn);
  conn.send = (/** @type {any} */ message) => {
    if (message.type === 'publish') sent.add(JSON.stringify(message.data));
    send(message);
  };
  conn.on('message', (/** @type {any} */ {type, data}) => { announced ||= type === 'publish' && sent.has(JSON.stringify(data)); });
  conn.on('disconnect', () => { announced = false; });
}

/** @type {any} */ (window).page = {
  /** Shares the document. @param {string} room @param {string} url @param {string} [password] */
  join(room, url, password) {
    provider = new WebrtcProvider(room, doc, {
      signaling: [url], password, filterBcConns: false, peerOpts: {config: {iceServers: []}},
    });
    provider.signalingConns.forEach(watch);
  },
  /** Returns whether the page is connected to the signaling server, and has announced itself there. */
  announced() {
    return announced;
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
      peers: peers.map(({connected, closed, synced, peer}) => ({connected, closed, synced, ice: peer._pc?.iceConnectionState, signaling: peer._pc?.signalingState, initiator: peer.initiator})),
    });
  },
  /** Returns the lines, sorted. */
  lines() {
    return doc.getText('notes').toString().split('\n').filter(line => line !== '').sort();
  },
};
