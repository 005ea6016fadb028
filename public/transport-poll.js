/** Receives a message by long polling, which works through every proxy. */

import {InboxError, retryAfter} from './codec.js';
import {TIMEOUT_MARGIN} from './requests.js';

/** @typedef {import('./transports.js').WireMessage} WireMessage */

/**
 * Sends one poll. Returns the message, null without one, or 'superseded' if another client has
 * the mailbox. Throws an InboxError.
 * @param {import('./requests.js').Requests} requests
 * @param {Record<string, string>} query
 * @param {number} wait seconds that the server should wait
 * @param {(AbortSignal | undefined)[]} signals abort the poll
 * @returns {Promise<WireMessage | 'superseded' | null>}
 */
export async function poll(requests, query, wait, signals) {
  const {response, body} = await requests.send('GET', {...query, wait: String(wait)}, {limit: wait * 1000 + TIMEOUT_MARGIN, signals});
  const {headers, status} = response;
  if (headers.get('X-Poll-Ended') === 'superseded') return 'superseded';
  const pause = retryAfter(response);
  if (pause > 0) throw new InboxError('stopping', 'the server is shutting down', {status: 204, retryAfter: pause});
  if (status !== 200) return null;
  const [id, from, type] = ['X-Message-Id', 'X-From', 'Content-Type'].map(name => headers.get(name) ?? '');
  return {id, from, type, body};
}
