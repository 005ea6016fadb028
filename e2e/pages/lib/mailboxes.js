/** An in-memory inbox server behind the `fetch` option of an Inbox, for tests without a network. */

/**
 * @typedef {{from: string, id: number, type: string, body: ArrayBuffer}} StoredMessage
 * @typedef {{password: string, messages: StoredMessage[], notify: () => void}} Mailbox
 * @typedef {{from: string, to: string, data: any}} Sent
 */

/**
 * MailboxServer implements claims, sends, long polls and deletion. A test can read, change,
 * drop and add messages, as a hostile server can.
 */
export class MailboxServer {
  /** @type {Map<string, Mailbox>} */
  mailboxes = new Map();
  /** @type {Sent[]} all JSON messages in the order in which they were stored */
  sent = [];
  /** @type {(message: Sent) => any} returns the data to store, or undefined to drop the message; can be async */
  intercept = ({data}) => data;
  #lastId = 0;

  /** The `fetch` option of an Inbox. @type {typeof fetch} */
  fetch = (resource, options = {}) => new Promise((resolve, reject) => {
    options.signal?.addEventListener('abort', () => reject(options.signal?.reason));
    this.#respond(resource, options).then(resolve, reject);
  });

  /** @param {Parameters<typeof fetch>[0]} resource @param {RequestInit} options */
  async #respond(resource, {method, headers, body, signal}) {
    const url = new URL(String(resource));
    const [name, password] = atob(new Headers(headers).get('Authorization')?.split(' ')[1] ?? '').split(':');
    const mailbox = this.#claim(name, password);
    if (!mailbox) return problem(401, 'unauthorized');
    if (method === 'DELETE') return this.#remove(name, mailbox);
    if (method === 'GET') return this.#receive(mailbox, url.searchParams, signal);
    return this.#post(name, url.searchParams.get('to') ?? '', new Request('http://x', {method, headers, body}));
  }

  /** Stores a JSON message without a sender's client. @param {string} from @param {string} to @param {any} data */
  inject(from, to, data) {
    return this.#store(from, to, 'application/json', new TextEncoder().encode(JSON.stringify(data)).buffer);
  }

  /** @param {string} name @param {string} password */
  #claim(name, password) {
    const mailbox = this.mailboxes.get(name) ?? {password, messages: [], notify: () => {}};
    if (mailbox.password !== password) return null;
    this.mailboxes.set(name, mailbox);
    return mailbox;
  }

  /** @param {string} name @param {Mailbox} mailbox */
  #remove(name, mailbox) {
    this.mailboxes.delete(name);
    mailbox.notify();
    return new Response(null, {status: 204});
  }

  /** @param {Mailbox} mailbox @param {URLSearchParams} query @param {AbortSignal | null | undefined} signal */
  async #receive(mailbox, query, signal) {
    const after = Number(query.get('after'));
    mailbox.messages = mailbox.messages.filter(({id}) => id > after);
    const wait = Number(query.get('wait'));
    if (mailbox.messages.length === 0 && wait > 0) await this.#wait(mailbox, wait, signal);
    const [message] = mailbox.messages;
    if (!message) return new Response(null, {status: 204});
    const headers = {'X-From': message.from, 'X-Message-Id': String(message.id), 'Content-Type': message.type};
    return new Response(message.body, {headers});
  }

  /** @param {Mailbox} mailbox @param {number} seconds @param {AbortSignal | null | undefined} signal */
  async #wait(mailbox, seconds, signal) {
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    await new Promise(resolve => {
      mailbox.notify = () => resolve(undefined);
      timer = setTimeout(resolve, seconds * 1000);
      signal?.addEventListener('abort', resolve);
    });
    clearTimeout(timer);
  }

  /** @param {string} from @param {string} to @param {Request} request */
  async #post(from, to, request) {
    const type = request.headers.get('Content-Type') ?? '';
    const body = await request.arrayBuffer();
    if (!this.mailboxes.has(to)) return problem(404, 'no-inbox');
    if (type !== 'application/json') return this.#store(from, to, type, body);
    const data = await this.intercept({from, to, data: JSON.parse(new TextDecoder().decode(body))});
    if (data !== undefined) this.inject(from, to, data);
    return new Response();
  }

  /** @param {string} from @param {string} to @param {string} type @param {ArrayBuffer} body */
  #store(from, to, type, body) {
    const mailbox = this.mailboxes.get(to);
    if (!mailbox) return problem(404, 'no-inbox');
    if (type === 'application/json') this.sent.push({from, to, data: JSON.parse(new TextDecoder().decode(body))});
    mailbox.messages.push({from, id: ++this.#lastId, type, body});
    mailbox.notify();
    return new Response();
  }
}

/** @param {number} status @param {string} code */
function problem(status, code) {
  return new Response(JSON.stringify({type: `urn:inbox:problem:${code}`, title: 'title'}), {status});
}
