/** The script of a page with a shared document. */

import {Doc} from 'yjs';
import {WebrtcProvider} from 'y-webrtc';

const doc = new Doc();

/** @type {any} */ (window).page = {
  /** Shares the document. @param {string} room @param {string} url @param {string} [password] */
  join(room, url, password) {
    new WebrtcProvider(room, doc, {
      signaling: [url], password, filterBcConns: false, peerOpts: {config: {iceServers: []}},
    });
  },
  /** Appends a line. @param {string} line */
  write(line) {
    doc.getText('notes').insert(doc.getText('notes').length, line + '\n');
  },
  /** Returns the lines, sorted. */
  lines() {
    return doc.getText('notes').toString().split('\n').filter(line => line !== '').sort();
  },
};
