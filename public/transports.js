/**
 * The transports of a mailbox: their types, and which of them do not work.
 *
 * Long polling needs nothing and works everywhere, so each client begins with it. A WebSocket
 * takes its place once it is open, or else an event stream. streams.js has their code. A
 * client loads it when it works: it imports nothing, so a bundler leaves it out of what a
 * page loads first.
 */

/**
 * @typedef {'websocket'|'stream'} StreamName stream: Server-Sent Events, read with fetch
 * @typedef {StreamName|'poll'} Transport
 * @typedef {'superseded'|'stopping'|'claim-ended'} EndReason why the server ended a stream
 * @typedef {EndReason | 'lost' | 'silent'} StreamEnd lost: the connection was closed; silent:
 *   nothing arrives
 * @typedef {{id: string, from: string, type: string, body: string | ArrayBuffer}} WireMessage
 *   a message with its media type; from is percent-encoded
 * @typedef {{type: string, body: string | Uint8Array}} Sendable
 * @typedef {object} Problem a problem document of the server (RFC 9457)
 * @property {string} [type]
 * @property {string} [title]
 * @property {string} [detail]
 * @property {number} [status]
 * @property {number} [retryAfter] seconds
 * @typedef {{problem: Problem} | {lost: true}} SendFailure lost: the server did not answer
 *
 * @typedef {object} Stream an open WebSocket or event stream
 * @property {(id: string) => void} ack acknowledges the messages up to this one
 * @property {() => void} [check] ends the stream if the server does not answer soon. One
 *   without it cannot ask
 * @property {() => void} close
 * @property {(to: string, message: Sendable, wait: number) => Promise<void> | null} [send]
 *   rejects with a {@link SendFailure}; null if the stream cannot take the message now
 * @property {number} [maxBodyBytes] of a message to send
 *
 * @typedef {object} Connection what a stream needs of its client
 * @property {string} url of the mailboxes
 * @property {string} name
 * @property {string} password
 * @property {string} client
 * @property {typeof WebSocket | undefined} WebSocket
 * @property {import('./requests.js').Requests} requests
 *
 * @typedef {object} StreamListener
 * @property {AbortSignal} signal ends the stream, also while it is being opened
 * @property {() => Promise<string>} takeOver called right before the server learns of the
 *   stream: ends the present receiver, and returns the ID of the last message
 * @property {(message: WireMessage) => void} onMessage
 * @property {(end: StreamEnd) => void} onEnd called once, if the stream was opened
 *
 * @typedef {(options: Connection & StreamListener) => Promise<Stream>} OpenStream rejects with
 *   {problem} if the server refuses, or with an Error if the transport does not work
 */

/**
 * The transports that do not work: when each can be tried again, in milliseconds, by its name
 * and the server. All clients of a page share it.
 * @type {Map<string, {until: number, failures: number}>}
 */
export const broken = new Map();
