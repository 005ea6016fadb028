/**
 * Receives messages as Server-Sent Events (docs/protocol.md), read with fetch, which sends the
 * credentials like any request.
 */

import {mediaTypes} from './media-types.js';

/** Milliseconds in which the first bytes must arrive. They do not if a proxy collects the response. */
const FIRST_BYTES_LIMIT = 5_000;
/** Milliseconds without a message or a heartbeat, which the server sends every 25 seconds. */
const SILENCE_LIMIT = 55_000;
/** Milliseconds before an acknowledgement that failed is sent again. */
const ACK_RETRY = 2_000;

/**
 * Opens an event stream, which is open when its first bytes have arrived.
 * @type {import('./transports.js').OpenStream}
 */
export function open({requests, client, readResponse, takeOver, onOpen, onMessage, limit, end}) {
  const abort = new AbortController();
  const {signal} = abort;
  let acked = '';
  let isAcking = false;
  /** The event whose lines arrive. */
  let event = {id: '', type: '', data: ''};

  read().then(() => end('lost'), error => end('lost', error));
  return {
    close: () => abort.abort(),
    ack(id) {
      acked = id;
      if (!isAcking) void sendAcks();
    },
  };

  /** Reads until the stream ends. */
  async function read() {
    const query = {after: await takeOver(), client, resume: '1'};
    limit(FIRST_BYTES_LIMIT);
    const response = await requests.open('GET', query, {accept: 'text/event-stream', signal});
    const isEventStream = response.status === 200 && response.headers.get('Content-Type')?.startsWith('text/event-stream');
    if (!isEventStream) throw await readResponse(response, 'GET', query);
    const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
    const decoder = new TextDecoder();
    for (let rest = '', isFirst = true; ; isFirst = false) {
      const {done, value} = await reader.read();
      if (done || signal.aborted) return;
      limit(SILENCE_LIMIT);
      if (isFirst) onOpen();
      const lines = (rest + decoder.decode(value, {stream: true})).split('\n');
      rest = lines.pop() ?? '';
      lines.forEach(onLine);
    }
  }

  /** Parses a line of an event stream (HTML Standard, section 9.2). @param {string} line */
  function onLine(line) {
    const [, field, colon, value] = /^([^:\r]*)(:?) ?([^\r]*)/.exec(line) ?? [];
    if (field === 'id') event.id = value;
    if (field === 'event') event.type = value;
    if (field === 'data') event.data += (event.data && '\n') + value;
    if (field || colon) return;
    if (!signal.aborted) onEvent(event);
    event = {id: '', type: '', data: ''};
  }

  /** @param {{id: string, type: string, data: string}} event */
  function onEvent({id, type, data}) {
    if (type === 'end') return end(/** @type {import('./transports.js').EndReason} */ (data));
    if (!data || (type && type !== 'message')) return;
    const {from, type: kind, body, body64} = JSON.parse(data);
    const bytes = body64 !== undefined && Uint8Array.from(atob(body64), char => char.charCodeAt(0)).buffer;
    onMessage({id, from: encodeURIComponent(from), type: mediaTypes[kind] ?? mediaTypes.bytes, body: bytes || body});
  }

  /** Sends the newest acknowledgement, one request at a time, until the server has it. */
  async function sendAcks() {
    isAcking = true;
    for (let sent = ''; !signal.aborted && sent !== acked;) {
      const id = acked;
      try {
        await requests.send('POST', {upTo: id}, {path: '/ack', signals: [signal]});
        sent = id;
      } catch (error) {
        const {retryAfter = 0} = /** @type {{retryAfter?: number}} */ (error);
        await new Promise(resolve => setTimeout(resolve, Math.max(ACK_RETRY, retryAfter * 1000)));
      }
    }
    isAcking = false;
  }
}
