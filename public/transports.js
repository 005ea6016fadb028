/**
 * The types of the transports of a mailbox, and which of them do not work.
 *
 * Long polling needs nothing and works everywhere, so each client begins with it. A WebSocket
 * takes its place once it is open, or else an event stream.
 */

/**
 * @typedef {'websocket'|'stream'} StreamName stream: Server-Sent Events, read with fetch
 * @typedef {StreamName|'poll'} Transport
 * @typedef {{until: number, failures: number}} Failure when a transport can be tried again, in milliseconds
 * @typedef {'superseded'|'stopping'|'claim-ended'} EndReason why the server ended a stream
 * @typedef {EndReason | 'lost' | 'silent' | 'offline' | 'replaced' | 'taken-over'} End how a stream ended:
 *   by the server; lost: the connection was closed; silent: nothing arrives; or by this client,
 *   which went offline, doubts the connection, or has a better stream
 * @typedef {{id: string, from: string, type: string, body: string | ArrayBuffer}} WireMessage
 *   a message with its media type; from is percent-encoded
 * @typedef {{type: string, body: string | Uint8Array<ArrayBuffer>}} Sendable
 *
 * @typedef {object} Stream a WebSocket or an event stream
 * @property {(id: string) => void} ack acknowledges the messages up to this one
 * @property {() => void} [check] ends the stream if the server does not answer soon. One
 *   without it cannot ask
 * @property {(reason: End) => void} close
 * @property {(to: string, message: Sendable, wait: number) => Promise<void> | null} [send]
 *   rejects with an InboxError if the server refuses, with nothing if it does not answer; null
 *   if the stream cannot take the message now
 * @property {number} [maxBodyBytes] of a message to send
 *
 * @typedef {object} Connection what a stream needs of its client
 * @property {string} url of the mailboxes
 * @property {string} name
 * @property {string} password
 * @property {string} client
 * @property {typeof WebSocket | undefined} WebSocket
 * @property {import('./inbox.js').Inbox} inbox
 * @property {typeof import('./codec.js').readResponse} readResponse
 * @property {typeof import('./codec.js').problemError} problemError
 *
 * @typedef {object} StreamListener
 * @property {() => Promise<string>} takeOver called right before the server learns of the
 *   stream: ends the present receiver, and returns the ID of the last message
 * @property {() => void} onOpen called when messages can arrive
 * @property {(message: WireMessage) => void} onMessage
 * @property {(milliseconds?: number) => void} limit ends the stream after this time, in place of
 *   the last one
 * @property {(reason: End, error?: unknown) => void} end ends the stream, once. error: an
 *   InboxError of the server, if it refuses
 *
 * @typedef {(options: Connection & StreamListener) => Stream} OpenStream
 */

/**
 * The transports that do not work, by their name and the server. All clients of a page share it.
 * @type {Map<string, Failure>}
 */
export const broken = new Map();
