/** Tests connect.js and peer-call.js over fake mailboxes and connections. */

import assert from 'node:assert/strict';
import {afterEach, test} from 'node:test';
import {answer, connect, listen} from '../../../public/connect.js';
import {requestIce} from '../../../public/ice-list.js';
import {Inbox} from '../../../public/inbox.js';
import {FakeMailbox, connect as connectChannel, link, reset, until} from '../lib/fakecalls.js';

/**
 * @typedef {import('../../../public/channel-call.js').ChannelCall} Call
 * @typedef {import('../../../public/connect.js').AnswerOptions<Call>} AnswerOptions
 */

/** Ends what a test has left. @type {(() => void)[]} */
let cleanups = [];

afterEach(() => {
  for (const cleanup of cleanups.splice(0)) cleanup();
  reset();
});

/**
 * Returns two mailboxes, a listener, and a function that ends all dials.
 * @param {AnswerOptions} [options] of the listener
 */
async function mailboxes(options = {}) {
  const alice = new FakeMailbox('alice'), bob = new FakeMailbox('bob');
  const listener = await listen(bob, {...bob.options, ...options});
  const abort = new AbortController();
  const dial = () => connect(alice, 'bob', {...alice.options, signal: abort.signal});
  cleanups.push(() => {
    listener.close();
    abort.abort();
  });
  /** @type {Call[]} */
  const calls = [];
  /** @type {import('../../../public/connect.js').InboxError[]} */
  const errors = [];
  listener.addEventListener('call', ({detail}) => calls.push(detail));
  listener.addEventListener('error', ({detail}) => errors.push(detail));
  return {alice, bob, listener, calls, errors, dial, abort};
}

/** Returns both sides of a call that is connected. @param {AnswerOptions} [options] of the callee */
async function connected(options) {
  const all = await mailboxes(options);
  const dialed = all.dial();
  await link(all.alice, all.bob);
  const call = await dialed;
  await until(() => all.calls.length === 1);
  const sides = [call, all.calls[0]];
  cleanups.unshift(() => { for (const side of sides) side.decline(); });
  return {...all, call, callee: all.calls[0]};
}

test('a call that is closed says which side has closed it, and sends no further message', async () => {
  const {call, callee, alice, bob} = await connected();
  const sent = alice.sent.length + bob.sent.length;
  await Promise.all([call.close(), call.close()]);
  assert.deepEqual(await Promise.all([call.closed, callee.closed]), ['local', 'remote']);
  assert.equal(alice.sent.length + bob.sent.length, sent);
  assert.throws(() => call.createChannel('late'), {code: 'closed'});
});

test('all channels send what waits before a call is closed', async () => {
  const {call, callee, alice} = await connected();
  /** @type {unknown[]} */
  const received = [];
  callee.addEventListener('channel', ({detail}) => detail.addEventListener('message', ({data}) => received.push(data)));
  const other = call.createChannel('other');
  const created = /** @type {import('../lib/fakechannel.js').FakeChannel} */ (alice.connection.channels.at(-1));
  connectChannel(alice.connection, created);
  created.stalled = true;
  const sent = other.send('x'.repeat(3 << 20));
  await until(() => created.bufferedAmount > 1 << 20);
  const closed = call.close();
  await new Promise(resolve => setTimeout(resolve, 20));
  created.stalled = false;
  created.drain();
  await Promise.all([sent, closed]);
  assert.equal(received.length, 1);
});

test('a channel can be created while another connection replaces the first one', async () => {
  const {call, callee, alice, bob} = await connected();
  const received = new Promise(resolve => callee.addEventListener('channel', ({detail}) => detail.addEventListener('message', ({data}) => resolve(data))));
  for (const mailbox of [alice, bob]) mailbox.connection.channels[0].close(); // both sides notice it
  await until(() => call.state === 'reconnecting');
  const created = call.createChannel('early');
  const sent = created.send('hello');
  await until(() => bob.connections.length === 2 && alice.connections.length === 2);
  await link(alice, bob);
  await sent;
  assert.equal(await received, 'hello');
  await until(() => call.state === 'connected' && callee.state === 'connected');
});

test('an offer for another connection is that of a call that reconnects', async () => {
  const {call, callee, bob, alice} = await connected();
  bob.connection.setConnectionState('failed');
  bob.connection.channels[0].cut = true;
  const {sent} = bob;
  bob.deliver('alice', {call: call.id, renew: 1});
  await until(() => sent.some(({data}) => data.g === 1) && alice.connections.length === 2);
  assert.deepEqual([call.state, callee.state], ['reconnecting', 'reconnecting']);
  assert.ok(call.peer && call.getStats() instanceof Promise);
});

test('a ring that is repeated while the calls cross makes one connection', async () => {
  const {bob, alice} = {alice: new FakeMailbox('alice'), bob: new FakeMailbox('bob')};
  alice.cut = true;
  const abort = new AbortController();
  cleanups.push(() => abort.abort());
  const dialed = connect(alice, 'bob', {...alice.options, signal: abort.signal});
  await until(() => alice.sent.length > 0);
  for (let i = 0; i < 3; i++) alice.deliver('bob', {call: '0', ring: ['audio']});
  alice.deliver('bob', {call: '0', ring: ['audio']});
  await until(() => alice.sent.some(({data}) => data.description));
  await new Promise(resolve => setTimeout(resolve, 20));
  alice.deliver('bob', {call: '0', ring: ['audio']});
  await new Promise(resolve => setTimeout(resolve, 20));
  assert.equal(alice.connections.length, 1);
  alice.deliver('bob', {call: '0', bye: 'closed'});
  await until(() => alice.connection.closed);
  assert.equal(bob.sent.length, 0);
  abort.abort(new Error('enough'));
  await assert.rejects(dialed, /enough/);
});

test('a late message of an earlier call does not end the next one of the same caller, and a newer ring does', async () => {
  let accept = (/** @type {boolean} */ _yes) => {};
  const {alice, bob, dial, errors} = await mailboxes({accept: () => new Promise(resolve => { accept = resolve; })});
  const dialed = dial();
  await until(() => alice.sent.some(({data}) => data.ring));
  for (const data of [{call: 'earlier', renew: 1}, {call: 'another', bye: 'closed'}, {call: 'third', n: 5, g: 0, candidates: []}]) bob.deliver('alice', data);
  await new Promise(resolve => setTimeout(resolve, 20));
  accept(true);
  await link(alice, bob);
  const call = await dialed;
  await call.close();
  bob.deliver('carol', {call: 'first', ring: []});
  bob.deliver('carol', {call: 'second', ring: []});
  await until(() => bob.sent.some(({to, data}) => to === 'carol' && data.call === 'first' && data.bye === 'declined'));
  assert.deepEqual(errors, []);
});

test('a mailbox cannot call itself', async () => {
  const alice = new FakeMailbox('alice');
  await assert.rejects(connect(alice, 'alice', alice.options), {code: 'refused-call'});
});

test('accept must say yes', async () => {
  for (const choice of [undefined, null, 0, '']) {
    const {dial} = await mailboxes({accept: () => /** @type {any} */ (choice)});
    await assert.rejects(dial(), {code: 'declined'});
    reset();
  }
});

test('a call that the user does not answer leaves its place', async t => {
  let asked = 0;
  const {bob, listener} = await mailboxes({accept: () => new Promise(() => asked++)});
  t.mock.timers.enable({apis: ['setTimeout']});
  for (let i = 0; i < 20; i++) bob.deliver(`caller ${i}`, {call: `${i}`, ring: []});
  await flush();
  assert.equal(asked, 16);
  t.mock.timers.tick(120_000);
  await flush();
  for (let i = 100; i < 120; i++) bob.deliver(`caller ${i}`, {call: `${i}`, ring: []});
  await flush();
  assert.equal(asked, 16 + 16);
  t.mock.timers.reset();
  listener.close();
});

/** Runs pending promise callbacks, without a timer. */
async function flush() {
  for (let i = 0; i < 20; i++) await new Promise(resolve => setImmediate(resolve));
}

test('a connected call restarts ICE again when its mailbox was taken back', async t => {
  const {call, alice} = await connected();
  const setSignaling = t.mock.method(call.peer, 'setSignaling');
  alice.dispatchEvent(new CustomEvent('status', {detail: 'superseded'}));
  alice.dispatchEvent(new CustomEvent('status', {detail: 'open'}));
  assert.deepEqual(setSignaling.mock.calls.map(({arguments: [open]}) => open), [false, true]);
  assert.equal(call.state, 'connected');
});

test('a callee that hangs up at once does not determine how often it is called', async t => {
  const alice = new FakeMailbox('alice'), mallory = new FakeMailbox('mallory');
  mallory.deliver = (_from, {call, ring}) => ring && alice.deliver('mallory', {call, bye: 'closed'});
  t.mock.timers.enable({apis: ['setTimeout', 'Date']});
  const abort = new AbortController();
  const dialed = connect(alice, 'mallory', {...alice.options, signal: abort.signal});
  const rings = () => alice.sent.filter(({data}) => data.ring).length;
  for (let i = 0; i < 20; i++) {
    await flush();
    t.mock.timers.tick(1);
  }
  assert.equal(rings(), 1);
  for (let i = 0; i < 5; i++) {
    t.mock.timers.tick(1_000);
    await flush();
  }
  assert.ok(rings() > 1 && rings() <= 6, `got ${rings()}`);
  abort.abort(new Error('enough'));
  await assert.rejects(dialed, /enough/);
});

test('hostile messages end nothing but the calls of their sender', async () => {
  const {call, callee, bob, alice, errors} = await connected();
  for (const data of [{call: call.id, bye: 'closed'}, {call: call.id, ring: []}, {call: '__proto__', ring: []}, {call: 'constructor', bye: {}}, {call: 'x'.repeat(65), ring: []}]) {
    bob.deliver('mallory', data);
    alice.deliver('mallory', data);
  }
  for (const data of [null, 1, 'bye', [], {}, {call: 1}, {call: call.id, g: -1}, {call: call.id, g: '1', n: 9, description: {type: 'offer', sdp: ''}}, {call: call.id, renew: -1}, {call: call.id, renew: 1.5}, {call: call.id, renew: 1e9}]) {
    bob.deliver('alice', data);
    alice.deliver('bob', data);
  }
  await new Promise(resolve => setTimeout(resolve, 30));
  assert.deepEqual([call.state, callee.state, alice.connections.length, errors], ['connected', 'connected', 1, []]);
});

test('answer removes its listener of the signal, and ends when the server refuses the mailbox', async () => {
  const bob = new FakeMailbox('bob');
  const abort = new AbortController();
  let listeners = 0;
  const {signal} = abort;
  for (const [name, step] of /** @type {const} */ ([['addEventListener', 1], ['removeEventListener', -1]])) {
    const original = signal[name].bind(signal);
    signal[name] = (/** @type {[any, any]} */ ...rest) => { listeners += step; original(...rest); };
  }
  const answered = answer(bob, {...bob.options, signal});
  await new Promise(resolve => setTimeout(resolve, 20));
  const {InboxError} = await import('../../../public/codec.js');
  bob.fakeStatus = 'refused';
  bob.refuse(new InboxError('invitation-expired', 'expired', {status: 403}));
  await assert.rejects(answered, {code: 'invitation-expired'});
  assert.equal(listeners, 0);
});

test('a fetch of the application is used for all requests, and not as a method', async () => {
  /** @type {string[]} */
  const requests = [];
  const custom = /** @type {typeof fetch} */ (async function(/** @type {unknown} */ url) {
    // @ts-expect-error a browser refuses to be called otherwise
    assert.equal(this, undefined);
    requests.push(new URL(String(url)).pathname);
    return Response.json({iceServers: [{urls: 'stun:example.org'}]});
  });
  const inbox = new Inbox('https://example.org/inbox', {name: 'me', password: 'secret', fetch: custom});
  assert.equal((await requestIce(inbox)).iceServers.length, 1);
  inbox.sendLast('bob', 'hello');
  assert.deepEqual(requests, ['/ice', '/inbox']);
  const call = connect(new URL('https://example.org/inbox'), 'bob', {fetch: custom, signal: AbortSignal.timeout(50)});
  await assert.rejects(call);
});

test('between two connections of a call, a channel can be created and statistics be read', async t => {
  let gate = Promise.resolve(), open = () => {};
  t.mock.method(globalThis, 'fetch', async () => {
    await gate;
    return Response.json({iceServers: []});
  });
  const {call, callee, alice, bob} = await connected({iceServers: undefined});
  gate = new Promise(resolve => { open = resolve; });
  const received = new Promise(resolve => call.addEventListener('channel', ({detail}) => detail.addEventListener('message', ({data}) => resolve(data))));
  bob.deliver('alice', {call: call.id, renew: 1});
  await until(() => callee.state === 'reconnecting');
  const channel = callee.createChannel('between');
  const sent = channel.send('hello');
  assert.deepEqual([channel.label, channel.readyState], ['between', 'connecting']);
  await callee.getStats();
  open();
  await until(() => bob.connections.length === 2 && alice.connections.length === 2);
  await link(alice, bob);
  await sent;
  assert.equal(await received, 'hello');
});
