/** Tests code-owner.js and code-joiner.js with real inboxes on an in-memory server. */

import assert from 'node:assert/strict';
import {once} from 'node:events';
import {test} from 'node:test';
import {CodeJoiner} from '../../../public/code-joiner.js';
import {CodeOwner} from '../../../public/code-owner.js';
import {KeyExchange} from '../../../public/key-exchange.js';
import {base64url, fromBase64url} from '../../../public/room.js';
import {advance, onCleanup, openInbox, startInbox} from '../lib/inboxes.js';
import {MailboxServer} from '../lib/mailboxes.js';

const link = 'https://inbox.example/receive.html#id.secret';
const stranger = `join-${'s'.repeat(22)}`;
const commitment = base64url(new Uint8Array(32));

/** @param {MailboxServer} server */
const inboxOn = server => (/** @type {{name: string, password: string}} */ credentials) =>
  openInbox('http://localhost/inbox', {...credentials, fetch: server.fetch});

/** @param {CodeOwner | CodeJoiner} pairing @param {string} state */
async function untilState(pairing, state) {
  while (pairing.state !== state) await once(pairing, 'state');
}

/** Waits until the server has stored a message of a kind. @param {MailboxServer} server @param {string} kind */
async function untilSent(server, kind) {
  while (!server.sent.some(({data}) => data.kind === kind)) await new Promise(resolve => setImmediate(resolve));
  return server.sent.filter(({data}) => data.kind === kind);
}

/** Waits until the mailboxes of the server have the given names. @param {MailboxServer} server @param {string[]} names */
async function untilMailboxes(server, ...names) {
  const want = names.sort().join();
  while ([...server.mailboxes.keys()].sort().join() !== want) await new Promise(resolve => setImmediate(resolve));
}

/** Starts an owner, and records its states. @param {MailboxServer} server */
async function startOwner(server) {
  const owner = new CodeOwner(inboxOn(server));
  const states = recordStates(owner);
  onCleanup(() => owner.close());
  owner.renew();
  await untilState(owner, 'waiting');
  return {owner, states};
}

/** Starts a joiner, and records its states. @param {MailboxServer} server @param {string} code */
function startJoiner(server, code) {
  const joiner = new CodeJoiner(inboxOn(server), code);
  const states = recordStates(joiner);
  onCleanup(() => joiner.close());
  joiner.start();
  return {joiner, states};
}

/** @param {CodeOwner | CodeJoiner} pairing */
function recordStates(pairing) {
  /** @type {string[]} */
  const states = [];
  pairing.addEventListener('state', () => states.push(pairing.state));
  return states;
}

/** Brings an owner and a joiner to the decision. @param {MailboxServer} server */
async function meet(server) {
  const {owner, states: ownerStates} = await startOwner(server);
  const {code} = owner;
  const {joiner, states: joinerStates} = startJoiner(server, code);
  await Promise.all([untilState(owner, 'asked'), untilState(joiner, 'asked')]);
  return {owner, joiner, code, ownerStates, joinerStates};
}

test('a joiner receives the link after a press on each side', async () => {
  const server = new MailboxServer();
  const {owner, joiner, code, ownerStates, joinerStates} = await meet(server);
  assert.match(owner.digits, /^\d{4}$/);
  assert.equal(owner.digits, joiner.digits);
  assert.equal(owner.code, code);
  joiner.confirm();
  assert.equal(joiner.state, 'asked', 'the owner has not decided');
  await owner.letIn(link);
  await untilState(joiner, 'let-in');
  assert.equal(joiner.link, link);
  assert.deepEqual(ownerStates, ['starting', 'waiting', 'exchanging', 'asked', 'let-in']);
  assert.deepEqual(joinerStates, ['asked', 'let-in']);
  assert.deepEqual([owner.code, owner.digits, joiner.digits], ['', '', '']);
  assert.deepEqual(server.sent.map(({data}) => data.kind), ['join', 'key', 'reveal', 'link']);
  assert.ok(!JSON.stringify(server.sent).includes('secret'));
  await untilMailboxes(server);
});

test('a link that arrives before the confirmation is kept back', async () => {
  const server = new MailboxServer();
  const {owner, joiner} = await meet(server);
  await owner.letIn(link);
  await untilMailboxes(server, joiner.name);
  for (let i = 0; i < 20; i++) await new Promise(resolve => setImmediate(resolve));
  assert.deepEqual([joiner.state, joiner.link], ['asked', '']);
  joiner.confirm();
  await untilState(joiner, 'let-in');
  assert.equal(joiner.link, link);
});

test('an early confirmation has no effect', async () => {
  const server = new MailboxServer();
  const {owner} = await startOwner(server);
  const {joiner} = startJoiner(server, owner.code);
  joiner.confirm();
  await Promise.all([untilState(owner, 'asked'), untilState(joiner, 'asked')]);
  await owner.letIn(link);
  await untilSent(server, 'link');
  for (let i = 0; i < 20; i++) await new Promise(resolve => setImmediate(resolve));
  assert.equal(joiner.state, 'asked');
});

test('a pause releases the code and tells a joiner that the owner is busy', async () => {
  const server = new MailboxServer();
  const {owner, joiner, code} = await meet(server);
  owner.pause();
  assert.deepEqual([owner.state, owner.code, owner.digits], ['paused', '', '']);
  await untilState(joiner, 'busy');
  await untilMailboxes(server);
  owner.pause();
  owner.renew();
  await untilState(owner, 'waiting');
  assert.notEqual(owner.code, code);
});

test('a pause does not end an interruption', async () => {
  const server = new MailboxServer();
  const {owner, joiner} = await meet(server);
  joiner.close();
  await untilState(owner, 'interrupted');
  owner.pause();
  assert.equal(owner.state, 'interrupted');
});

test('a code that no user sees is not renewed', async t => {
  t.mock.timers.enable({apis: ['setTimeout', 'Date']});
  const server = new MailboxServer();
  const owner = new CodeOwner(inboxOn(server), {mayRenew: () => false});
  onCleanup(() => owner.close());
  owner.renew();
  await untilState(owner, 'waiting');
  await advance(t, 601);
  assert.deepEqual([owner.state, owner.code], ['paused', '']);
  await untilMailboxes(server);
});

test('requests that are repeated are reported', async t => {
  t.mock.timers.enable({apis: ['setTimeout', 'Date']});
  const server = new MailboxServer();
  const {fetch} = server;
  let failures = 1;
  server.fetch = (...request) => failures-- > 0 ? Promise.reject(new TypeError('network')) : fetch(...request);
  const owner = new CodeOwner(inboxOn(server));
  onCleanup(() => owner.close());
  owner.renew();
  await once(owner, 'retry');
  assert.equal(owner.retry?.error.code, 'network');
  assert.ok(owner.retry.until > Date.now());
  const waiting = untilState(owner, 'waiting');
  await advance(t, 5);
  await waiting;
  assert.equal(owner.retry, null);
});

test('a used code is not valid again', async () => {
  const server = new MailboxServer();
  const {owner, code} = await meet(server);
  await owner.letIn(link);
  const {joiner} = startJoiner(server, code);
  await untilState(joiner, 'wrong-code');
  owner.renew();
  await untilState(owner, 'waiting');
  assert.notEqual(owner.code, code);
});

test('a refused joiner is told so, and a new code follows', async () => {
  const server = new MailboxServer();
  const {owner, joiner, code, ownerStates} = await meet(server);
  owner.refuse();
  await untilState(joiner, 'refused');
  await untilState(owner, 'waiting');
  assert.notEqual(owner.code, code);
  assert.deepEqual(ownerStates.slice(-3), ['asked', 'starting', 'waiting']);
  await untilMailboxes(server, `code-${owner.code}`);
  await owner.letIn(link);
  assert.equal(server.sent.filter(({data}) => data.kind === 'link').length, 0);
});

test('a decision counts once', async () => {
  const server = new MailboxServer();
  const {owner, joiner} = await meet(server);
  joiner.confirm();
  const letIn = owner.letIn(link);
  owner.refuse();
  await Promise.all([letIn, owner.letIn('https://other.example/')]);
  await untilState(joiner, 'let-in');
  assert.equal(joiner.link, link);
  assert.deepEqual(server.sent.map(({data}) => data.kind), ['join', 'key', 'reveal', 'link']);
});

test('a decision without a joiner does nothing', async () => {
  const server = new MailboxServer();
  const {owner} = await startOwner(server);
  const {code} = owner;
  await owner.letIn(link);
  owner.refuse();
  assert.deepEqual([owner.state, owner.code], ['waiting', code]);
});

test('a code without an owner is wrong', async () => {
  const server = new MailboxServer();
  const {joiner, states} = startJoiner(server, 'ABC234');
  await untilState(joiner, 'wrong-code');
  assert.deepEqual([states, joiner.reason], [['wrong-code'], '']);
  await untilMailboxes(server);
  joiner.start();
  joiner.confirm();
  assert.equal(joiner.state, 'wrong-code', 'a joiner is used once');
});

test('a second joiner is told that the owner is busy', async () => {
  const server = new MailboxServer();
  const {owner, joiner, code} = await meet(server);
  const {joiner: second} = startJoiner(server, code);
  await untilState(second, 'busy');
  assert.equal(owner.state, 'asked');
  joiner.confirm();
  await owner.letIn(link);
  await untilState(joiner, 'let-in');
});

test('only eight rejected joiners of a code get an answer', async () => {
  const server = new MailboxServer();
  const {owner, code} = await meet(server);
  const names = Array.from({length: 12}, (_, i) => `join-${String(i).padStart(22, 'x')}`);
  for (const name of names) {
    await startInbox(openInbox('http://localhost/inbox', {name, fetch: server.fetch}));
    server.inject(name, `code-${code}`, {v: 1, kind: 'join', commitment});
  }
  while (server.sent.filter(({data}) => data.kind === 'end').length < 8) await new Promise(resolve => setImmediate(resolve));
  for (let i = 0; i < 50; i++) await new Promise(resolve => setImmediate(resolve));
  assert.deepEqual(server.sent.filter(({data}) => data.kind === 'end').map(({to}) => to), names.slice(0, 8));
  assert.equal(owner.state, 'asked');
});

test('a joiner that leaves interrupts the owner, which needs a press for a new code', async () => {
  const server = new MailboxServer();
  const {owner, joiner} = await meet(server);
  joiner.close();
  await untilState(owner, 'interrupted');
  assert.deepEqual([owner.reason, owner.code, owner.digits, joiner.state], ['left', '', '', 'closed']);
  await untilMailboxes(server);
  owner.renew();
  await untilState(owner, 'waiting');
});

test('an owner that closes tells the joiner', async () => {
  const server = new MailboxServer();
  const {owner, joiner} = await meet(server);
  owner.close();
  await untilState(joiner, 'failed');
  assert.deepEqual([joiner.reason, owner.state], ['left', 'closed']);
  owner.renew();
  assert.equal(owner.state, 'closed');
});

test('a new code during an exchange ends it', async () => {
  const server = new MailboxServer();
  const {owner, joiner} = await meet(server);
  owner.renew();
  await untilState(joiner, 'expired');
  await untilState(owner, 'waiting');
});

test('a new code during letIn keeps the link back', async () => {
  const server = new MailboxServer();
  const {owner, joiner} = await meet(server);
  server.intercept = ({data}) => (data.kind === 'end' ? undefined : data); // so that the joiner keeps its mailbox
  const letIn = owner.letIn(link);
  owner.renew();
  await letIn;
  assert.equal(joiner.state, 'asked');
  assert.ok(!server.sent.some(({data}) => data.kind === 'link'));
});

test('a side can close before it starts', () => {
  const server = new MailboxServer();
  const joiner = new CodeJoiner(inboxOn(server), 'ABC234');
  joiner.close();
  joiner.start();
  assert.equal(joiner.state, 'closed');
  const owner = new CodeOwner(inboxOn(server));
  owner.close();
  owner.renew();
  assert.equal(owner.state, 'closed');
  assert.equal(server.mailboxes.size, 0);
});

test('a code that is in use is replaced, at most twice', async () => {
  const server = new MailboxServer();
  /** @type {string[]} */
  const names = [];
  /** @type {import('../../../public/inbox.js').Inbox[]} */
  const inboxes = [];
  const taken = new CodeOwner(credentials => {
    names.push(credentials.name);
    server.mailboxes.set(credentials.name, {password: 'of another owner', messages: [], notify: () => {}});
    const inbox = inboxOn(server)(credentials);
    inboxes.push(inbox);
    return inbox;
  });
  onCleanup(() => taken.close());
  taken.renew();
  await untilState(taken, 'failed');
  assert.deepEqual([taken.reason, taken.code], ['unauthorized', '']);
  assert.equal(new Set(names).size, 3);
  assert.equal(server.mailboxes.size, 3, 'mailboxes of other owners are not deleted');
  assert.deepEqual(inboxes.map(({status}) => status), ['closed', 'closed', 'closed'], 'no further wrong passwords');
  taken.renew();
  await untilState(taken, 'failed');
  assert.equal(names.length, 6, 'a press tries again');
});

test('an owner whose mailbox is lost during an exchange is interrupted', async () => {
  const server = new MailboxServer();
  const {owner, code} = await meet(server);
  server.mailboxes.set(`code-${code}`, {password: 'of another owner', messages: [], notify: () => {}});
  await owner.letIn(link);
  assert.deepEqual([owner.state, owner.reason], ['interrupted', 'unauthorized']);
});

test('a joiner whose mailbox is lost fails', async () => {
  const server = new MailboxServer();
  const {owner} = await startOwner(server);
  const joiner = new CodeJoiner(credentials => {
    server.mailboxes.set(credentials.name, {password: 'of another client', messages: [], notify: () => {}});
    return inboxOn(server)(credentials);
  }, owner.code);
  joiner.start();
  await untilState(joiner, 'failed');
  assert.equal(joiner.reason, 'unauthorized');
});

test('an owner whose joiner disappears is interrupted', async () => {
  const server = new MailboxServer();
  const {owner, joiner} = await meet(server);
  server.mailboxes.delete(joiner.name);
  await owner.letIn(link);
  assert.deepEqual([owner.state, owner.reason], ['interrupted', 'no-inbox']);
});

test('a joiner whose owner disappears after its key fails', async () => {
  const server = new MailboxServer();
  server.intercept = ({from, data}) => (data.kind === 'key' && server.mailboxes.delete(from), data);
  const {owner} = await startOwner(server);
  const {joiner} = startJoiner(server, owner.code);
  await untilState(joiner, 'failed');
  assert.equal(joiner.reason, 'no-inbox');
});

test('a link that is not one of http ends the exchange', async () => {
  const server = new MailboxServer();
  const {owner, joiner} = await meet(server);
  await owner.letIn('javascript:alert(1)');
  assert.deepEqual([owner.state, owner.reason], ['interrupted', 'invalid-link']);
  await untilState(joiner, 'failed');
  assert.equal(joiner.reason, 'invalid-link');
});

test('without WebCrypto both sides fail', async t => {
  const server = new MailboxServer();
  const {owner} = await startOwner(server);
  t.mock.method(KeyExchange, 'create', async () => { throw new TypeError('crypto.subtle is undefined'); });
  server.inject(stranger, `code-${owner.code}`, {v: 1, kind: 'join', commitment});
  await untilState(owner, 'interrupted');
  const {joiner} = startJoiner(server, 'ABC234');
  await untilState(joiner, 'failed');
  assert.deepEqual([owner.reason, joiner.reason], ['failed', 'failed']);
});

// Timeouts

test('a code is replaced after ten minutes', async t => {
  t.mock.timers.enable({apis: ['setTimeout', 'Date']});
  const server = new MailboxServer();
  const {owner, states} = await startOwner(server);
  const {code} = owner;
  await advance(t, 599);
  assert.equal(owner.code, code);
  await advance(t, 2);
  await untilState(owner, 'waiting');
  assert.notEqual(owner.code, code);
  assert.deepEqual(states, ['starting', 'waiting', 'starting', 'waiting']);
  await untilMailboxes(server, `code-${owner.code}`);
});

test('a code does not outlive the sleep of its device', async t => {
  t.mock.timers.enable({apis: ['Date']}); // the clock advances, the timers do not
  const server = new MailboxServer();
  const {owner} = await startOwner(server);
  const {code} = owner;
  t.mock.timers.tick(600_001);
  const {joiner} = startJoiner(server, code);
  await untilState(joiner, 'expired');
  await untilState(owner, 'waiting');
  assert.notEqual(owner.code, code);
});

test('an owner without a decision is interrupted after two minutes', async t => {
  t.mock.timers.enable({apis: ['setTimeout', 'Date']});
  const server = new MailboxServer();
  const {owner, joiner} = await meet(server);
  await advance(t, 119);
  assert.equal(owner.state, 'asked');
  await advance(t, 2);
  assert.deepEqual([owner.state, owner.reason], ['interrupted', 'expired']);
  await untilState(joiner, 'expired');
});

test('a joiner without a confirmation expires', async t => {
  t.mock.timers.enable({apis: ['setTimeout', 'Date']});
  const server = new MailboxServer();
  const {owner, joiner} = await meet(server);
  await owner.letIn(link);
  await advance(t, 152);
  assert.deepEqual([joiner.state, joiner.link], ['expired', '']);
  joiner.confirm();
  assert.equal(joiner.state, 'expired');
});

test('an owner that gets no key is interrupted', async t => {
  t.mock.timers.enable({apis: ['setTimeout', 'Date']});
  const server = new MailboxServer();
  server.intercept = ({data}) => (data.kind === 'reveal' ? undefined : data);
  const {owner} = await startOwner(server);
  const {joiner} = startJoiner(server, owner.code);
  await untilState(joiner, 'asked');
  await advance(t, 31);
  assert.deepEqual([owner.state, owner.reason], ['interrupted', 'no-answer']);
  await untilState(joiner, 'failed');
  assert.equal(joiner.reason, 'no-answer');
});

test('a joiner that gets no answer fails', async t => {
  t.mock.timers.enable({apis: ['setTimeout', 'Date']});
  const server = new MailboxServer();
  server.intercept = ({data}) => (data.kind === 'key' ? undefined : data);
  const {owner} = await startOwner(server);
  const {joiner} = startJoiner(server, owner.code);
  await untilState(owner, 'exchanging');
  server.intercept = () => undefined;
  await advance(t, 46);
  assert.deepEqual([joiner.state, joiner.reason], ['failed', 'no-answer']);
});

test('a link that cannot be sent interrupts the owner', async t => {
  t.mock.timers.enable({apis: ['setTimeout', 'Date']});
  const server = new MailboxServer();
  const {owner} = await meet(server);
  server.intercept = () => new Promise(() => {});
  void owner.letIn(link);
  await advance(t, 31);
  assert.deepEqual([owner.state, owner.reason], ['interrupted', 'no-answer']);
});

test('a mailbox is released although its last message cannot be sent', async t => {
  t.mock.timers.enable({apis: ['setTimeout', 'Date']});
  const server = new MailboxServer();
  const {owner, joiner, code} = await meet(server);
  server.intercept = () => new Promise(() => {});
  owner.refuse();
  await untilState(owner, 'waiting');
  server.inject(stranger, `code-${code}`, {v: 1, kind: 'join', commitment});
  await advance(t, 6);
  assert.equal(owner.state, 'waiting', 'a message to the old code has no effect');
  await untilMailboxes(server, `code-${owner.code}`, joiner.name);
});

// Attacks

/** The attacks change a message of a kind. @type {[string, string, (data: any) => any, [string, string], [string, string]][]} */
const changes = [
  ['a commitment to another key', 'join', data => ({...data, commitment}), ['interrupted', 'wrong-commitment'], ['failed', 'wrong-commitment']],
  ['a commitment of the wrong length', 'join', data => ({...data, commitment: 'AAAA'}), ['waiting', ''], ['failed', 'malformed']],
  ['no commitment', 'join', data => ({...data, commitment: undefined}), ['waiting', ''], ['failed', 'malformed']],
  ['an invalid key of the owner', 'key', data => ({...data, key: flip(data.key)}), ['interrupted', 'left'], ['failed', 'invalid-key']],
  ['no key of the owner', 'key', data => ({...data, key: undefined}), ['interrupted', 'left'], ['failed', 'invalid-key']],
  ['an invalid key of the joiner', 'reveal', data => ({...data, key: flip(data.key)}), ['interrupted', 'invalid-key'], ['failed', 'invalid-key']],
  ['no key of the joiner', 'reveal', data => ({...data, key: undefined}), ['interrupted', 'invalid-key'], ['failed', 'invalid-key']],
  ['an altered link', 'link', data => ({...data, sealed: {...data.sealed, box: flip(data.sealed.box)}}), ['let-in', ''], ['failed', 'wrong-context']],
  ['an altered nonce', 'link', data => ({...data, sealed: {...data.sealed, nonce: flip(data.sealed.nonce)}}), ['let-in', ''], ['failed', 'wrong-context']],
  ['a link under another key', 'link', data => ({...data, sealed: {...data.sealed, key: flip(data.sealed.key)}}), ['let-in', ''], ['failed', 'wrong-key']],
  ['a plain link', 'link', data => ({...data, sealed: 'https://attacker.example/'}), ['let-in', ''], ['failed', 'not-sealed']],
  ['no link', 'link', data => ({...data, sealed: undefined}), ['let-in', ''], ['failed', 'not-sealed']],
  ['an end without a reason', 'key', data => ({...data, kind: 'end'}), ['interrupted', 'no-answer'], ['failed', 'left']],
  ['an end with an odd reason', 'key', data => ({...data, kind: 'end', reason: '<b>'.repeat(99)}), ['interrupted', 'no-answer'], ['failed', 'left']],
];

/** Flips the lowest bit of the last byte. @param {string} text base64url */
function flip(text) {
  const bytes = /** @type {Uint8Array} */ (fromBase64url(text));
  bytes[bytes.length - 1] ^= 1;
  return base64url(bytes);
}

for (const [name, kind, change, ownerEnd, joinerEnd] of changes) {
  test(`a server that delivers ${name} is detected`, async t => {
    t.mock.timers.enable({apis: ['setTimeout', 'Date']});
    const server = new MailboxServer();
    server.intercept = ({data}) => (data.kind === kind ? change(data) : data);
    const {owner} = await startOwner(server);
    const {joiner} = startJoiner(server, owner.code);
    joiner.addEventListener('state', () => joiner.confirm());
    owner.addEventListener('state', () => { if (owner.state === 'asked') void owner.letIn(link); });
    await untilState(joiner, joinerEnd[0]);
    if (ownerEnd[1] === 'no-answer') await advance(t, 31);
    await untilState(owner, ownerEnd[0]);
    assert.deepEqual([owner.reason, joiner.reason, joiner.link], [ownerEnd[1], joinerEnd[1], '']);
  });
}

test('messages of another version are dropped', async () => {
  const server = new MailboxServer();
  const {owner, joiner, code} = await meet(server);
  for (const v of [undefined, 0, 2, '1']) {
    server.inject(joiner.name, `code-${code}`, {v, kind: 'end'});
    server.inject(`code-${code}`, joiner.name, {v, kind: 'end', reason: 'refused'});
  }
  for (const data of [null, 'end', 7, []]) server.inject(joiner.name, `code-${code}`, data);
  joiner.confirm();
  await owner.letIn(link);
  await untilState(joiner, 'let-in');
});

test('messages of other mailboxes are dropped', async () => {
  const server = new MailboxServer();
  const {owner, joiner, code} = await meet(server);
  for (const from of [stranger, 'join-short', `code-${code}`, 'code-XYZ234', '']) {
    for (const kind of ['key', 'reveal', 'link', 'end']) {
      const data = {v: 1, kind, key: commitment, sealed: {}, reason: 'refused'};
      server.inject(from, `code-${code}`, data);
      if (from !== `code-${code}`) server.inject(from, joiner.name, data);
    }
  }
  server.inject('join-short', `code-${code}`, {v: 1, kind: 'join', commitment});
  joiner.confirm();
  await owner.letIn(link);
  await untilState(joiner, 'let-in');
  assert.equal(server.sent.filter(({from, data}) => from === `code-${code}` && data.reason === 'busy').length, 0, 'no answer to a name that is not a joiner');
});

test('an end after the decision has no effect', async () => {
  const server = new MailboxServer();
  const {owner, joiner, code} = await meet(server);
  joiner.confirm();
  const letIn = owner.letIn(link);
  server.inject(joiner.name, `code-${code}`, {v: 1, kind: 'end', reason: 'left'});
  await letIn;
  assert.equal(owner.state, 'let-in');
  await untilState(joiner, 'let-in');
});

test('the first link counts', async () => {
  const server = new MailboxServer();
  const {owner, joiner, code} = await meet(server);
  await owner.letIn(link);
  const [{data}] = await untilSent(server, 'link');
  server.inject(`code-${code}`, joiner.name, {...data, sealed: null});
  server.inject(`code-${code}`, joiner.name, {v: 1, kind: 'end', reason: 'refused'});
  for (let i = 0; i < 50; i++) await new Promise(resolve => setImmediate(resolve));
  assert.equal(joiner.state, 'asked');
  joiner.confirm();
  await untilState(joiner, 'let-in');
  assert.equal(joiner.link, link);
});

test('messages in the wrong order are dropped', async () => {
  const server = new MailboxServer();
  const {owner} = await startOwner(server);
  const inbox = openInbox('http://localhost/inbox', {name: stranger, fetch: server.fetch});
  await startInbox(inbox);
  const to = `code-${owner.code}`;
  const exchange = await KeyExchange.create({owner: to, joiner: stranger});
  const reveal = {v: 1, kind: 'reveal', key: exchange.publicKey};
  await inbox.send(to, reveal);
  await inbox.send(to, {v: 1, kind: 'link', sealed: {}});
  await inbox.send(to, {v: 1, kind: 'end'});
  for (const from of ['join-short', `join-${'s'.repeat(21)}:`, `x${stranger}`, `${stranger}s`, to, '']) {
    server.inject(from, to, {v: 1, kind: 'join', commitment: await exchange.commitment});
  }
  for (let i = 0; i < 50; i++) await new Promise(resolve => setImmediate(resolve));
  assert.equal(owner.state, 'waiting');
  await inbox.send(to, {v: 1, kind: 'join', commitment: await exchange.commitment});
  await untilSent(server, 'key');
  await inbox.send(to, reveal);
  await untilState(owner, 'asked');
});

test('a joiner drops a link before the key, and a second key', async () => {
  const server = new MailboxServer();
  /** @type {string[]} */
  const injected = [];
  const other = await KeyExchange.create({owner: 'code-ABC234', joiner: stranger});
  server.intercept = ({from, to, data}) => {
    if (data.kind === 'key' && !injected.includes(to)) {
      injected.push(to);
      server.inject(from, to, {v: 1, kind: 'link', sealed: {v: 1}});
      server.inject(from, to, data);
      server.inject(from, to, {...data, key: other.publicKey});
      return undefined;
    }
    return data;
  };
  const {owner, joiner} = await meet(server);
  assert.equal(owner.digits, joiner.digits);
  joiner.confirm();
  await owner.letIn(link);
  await untilState(joiner, 'let-in');
  assert.equal(server.sent.filter(({data}) => data.kind === 'reveal').length, 1);
});

test('messages that arrive twice have no effect', async () => {
  const server = new MailboxServer();
  server.intercept = ({from, to, data}) => {
    server.inject(from, to, data);
    return data;
  };
  const {owner, joiner, ownerStates} = await meet(server);
  assert.equal(owner.digits, joiner.digits);
  joiner.confirm();
  await owner.letIn(link);
  await untilState(joiner, 'let-in');
  assert.deepEqual(ownerStates, ['starting', 'waiting', 'exchanging', 'asked', 'let-in']);
  assert.equal(joiner.link, link);
});

test('a joiner cannot replace its commitment or its key', async () => {
  const server = new MailboxServer();
  const {owner, joiner, code} = await meet(server);
  const {digits} = owner;
  const exchange = await KeyExchange.create({owner: `code-${code}`, joiner: joiner.name});
  server.inject(joiner.name, `code-${code}`, {v: 1, kind: 'join', commitment: await exchange.commitment});
  server.inject(joiner.name, `code-${code}`, {v: 1, kind: 'reveal', key: exchange.publicKey});
  joiner.confirm();
  for (let i = 0; i < 20; i++) await new Promise(resolve => setImmediate(resolve));
  assert.deepEqual([owner.state, owner.digits], ['asked', digits]);
  await owner.letIn(link);
  await untilState(joiner, 'let-in');
});

test('messages of an earlier exchange are refused', async () => {
  const server = new MailboxServer();
  const {owner, joiner} = await meet(server);
  joiner.confirm();
  await owner.letIn(link);
  await untilState(joiner, 'let-in');
  const [join, , reveal, oldLink] = server.sent;
  owner.renew();
  await untilState(owner, 'waiting');
  await startInbox(openInbox('http://localhost/inbox', {name: join.from, fetch: server.fetch}));
  server.inject(join.from, `code-${owner.code}`, join.data);
  while (server.sent.filter(({data}) => data.kind === 'key').length < 2) await new Promise(resolve => setImmediate(resolve));
  server.inject(join.from, `code-${owner.code}`, reveal.data);
  await untilState(owner, 'interrupted');
  assert.equal(owner.reason, 'wrong-commitment', 'a commitment belongs to one code');

  const later = await meet(server);
  server.inject(`code-${later.code}`, later.joiner.name, oldLink.data);
  await untilState(later.joiner, 'failed');
  assert.equal(later.joiner.reason, 'wrong-key');
});

/**
 * Puts an attacker between both sides, who exchanges its own keys with each.
 * @param {MailboxServer} server
 */
function attack(server) {
  /** @type {any} */
  const attacker = {};
  server.intercept = async ({from, to, data}) => {
    if (data.kind === 'join') {
      attacker.toOwner = await KeyExchange.create({owner: to, joiner: from});
      attacker.toJoiner = await KeyExchange.create({owner: to, joiner: from});
      attacker.commitment = data.commitment;
      return {...data, commitment: await attacker.toOwner.commitment};
    }
    if (data.kind === 'key') {
      attacker.withOwner = await attacker.toOwner.acceptKey(data.key);
      return {...data, key: attacker.toJoiner.publicKey};
    }
    if (data.kind === 'reveal') {
      attacker.withJoiner = await attacker.toJoiner.acceptReveal(attacker.commitment, data.key);
      return {...data, key: attacker.toOwner.publicKey};
    }
    return data;
  };
  return attacker;
}

test('an attacker who replaces the keys makes both sides show different digits', async () => {
  let equal = 0;
  for (let round = 0; round < 3; round++) { // the digits are equal with a probability of 1 in 10,000
    const server = new MailboxServer();
    const attacker = attack(server);
    const {owner, joiner} = await meet(server);
    assert.deepEqual([owner.digits, joiner.digits], [attacker.withOwner.digits, attacker.withJoiner.digits], 'the attacker has both keys');
    if (owner.digits === joiner.digits) equal++;
    owner.refuse();
    await untilState(joiner, 'refused');
  }
  assert.ok(equal < 3);
});

test('an attacker who stops before the reveal cannot try again without a press', async t => {
  t.mock.timers.enable({apis: ['setTimeout', 'Date']});
  const server = new MailboxServer();
  const {owner, states} = await startOwner(server);
  const to = `code-${owner.code}`;
  const inbox = openInbox('http://localhost/inbox', {name: stranger, fetch: server.fetch});
  await startInbox(inbox);
  const exchange = await KeyExchange.create({owner: to, joiner: stranger});
  await inbox.send(to, {v: 1, kind: 'join', commitment: await exchange.commitment});
  const [{data}] = await untilSent(server, 'key');
  await exchange.acceptKey(data.key); // now the attacker knows the digits
  await inbox.send(to, {v: 1, kind: 'end', reason: 'left'});
  await untilState(owner, 'interrupted');
  await advance(t, 700);
  assert.deepEqual(states, ['starting', 'waiting', 'exchanging', 'interrupted']);
  assert.equal(owner.code, '');
});

test('a server that only passes messages on cannot open the link', async () => {
  const server = new MailboxServer();
  const {owner, joiner, code} = await meet(server);
  joiner.confirm();
  await owner.letIn(link);
  await untilState(joiner, 'let-in');
  const [, key, reveal, sealed] = server.sent.map(({data}) => data);
  for (const publicKey of [key.key, reveal.key]) {
    const attacker = await KeyExchange.create({owner: `code-${code}`, joiner: joiner.name});
    const agreement = await attacker.acceptKey(publicKey);
    await assert.rejects(agreement.openLink(sealed.sealed), {code: 'wrong-key'});
  }
});
