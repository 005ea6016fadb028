/** Fakes for the tests of session.js: an in-memory server, its inboxes, and peers that record calls. */

/** FakeServer delays messages to a missing recipient, as the real server does for a POST with wait. */
export class FakeServer {
  /** @type {Map<string, FakeInbox>} */
  inboxes = new Map();
  /** @type {{from: string, to: string, data: any}[]} */
  sent = [];
  /** @type {{to: string, resume: () => void}[]} */
  #waiting = [];

  /** @param {string} from @param {string} to @param {any} data */
  async deliver(from, to, data) {
    if (!this.inboxes.has(to)) await new Promise(resolve => this.#waiting.push({to, resume: () => resolve(undefined)}));
    this.sent.push({from, to, data: structuredClone(data)});
    this.inboxes.get(to)?.dispatchEvent(new CustomEvent('message', {detail: {from, data: structuredClone(data)}}));
  }

  /** @param {FakeInbox} inbox */
  register(inbox) {
    this.inboxes.set(inbox.name, inbox);
    const due = this.#waiting.filter(({to}) => to === inbox.name);
    this.#waiting = this.#waiting.filter(({to}) => to !== inbox.name);
    for (const {resume} of due) resume();
  }

  /** @param {string} kind */
  count(kind) {
    return this.sent.filter(({data}) => data.kind === kind).length;
  }
}

export class FakeInbox extends EventTarget {
  status = 'idle';
  maxRetryDelay = 0;
  /** @type {{kind: string, status: number, code: string} | null} the kind of message that the server rejects, and the error */
  rejects = null;
  /** @param {FakeServer} server @param {string} name */
  constructor(server, name) {
    super();
    this.server = server;
    this.name = name;
  }
  start() {
    this.status = 'open';
    this.server.register(this);
  }
  /** @param {string} status */
  setStatus(status) {
    this.status = status;
    this.dispatchEvent(new CustomEvent('status', {detail: status}));
  }
  /** @param {'lost'|'restored'} detail */
  setConnection(detail) {
    this.dispatchEvent(new CustomEvent('connection', {detail}));
  }
  /** @param {string} to @param {any} data */
  async send(to, data) {
    if (this.rejects?.kind === data.kind) throw Object.assign(new Error('refused'), this.rejects);
    await this.server.deliver(this.name, to, data);
  }
  /** @param {string} to @param {any} data */
  sendLast(to, data) { void this.send(to, data); }
  released = false;
  release() { this.released = true; }
  supersede() {
    this.setStatus('superseded');
    this.dispatchEvent(new CustomEvent('superseded', {detail: 'replaced'}));
  }
}

export class FakePeer extends EventTarget {
  state = 'connecting';
  /** @type {any[]} */
  received = [];
  /** @type {Map<string, unknown>} */
  tracks = new Map();
  /** @param {any} options */
  constructor(options) {
    super();
    this.options = options;
    this.call = options.call;
  }
  /** @param {string} kind @param {unknown} track */
  async setTrack(kind, track) {
    if (this.tracks.size === 0 && !this.options.polite) this.options.send({call: this.call, n: 1, description: {type: 'offer', sdp: ''}});
    this.tracks.set(kind, track);
  }
  /** @param {any} signal */
  async receive(signal) { this.received.push(signal); }
  /** @type {boolean[]} */
  signaling = [];
  relayed = false;
  /** @param {boolean} open */
  setSignaling(open) { this.signaling.push(open); }
  /** @param {boolean} relayed */
  setRelayed(relayed) {
    this.relayed = relayed;
    this.dispatchEvent(new CustomEvent('path', {detail: relayed ? 'relayed' : 'direct'}));
  }
  /** @param {string} state */
  setState(state) {
    this.state = state;
    this.dispatchEvent(new CustomEvent('state', {detail: state}));
  }
  close() { this.setState('closed'); }
}
