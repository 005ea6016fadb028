/** Tests data-channel.js over fake channels. */

import assert from 'node:assert/strict';
import {test} from 'node:test';
import {DataChannel} from '../../../public/data-channel.js';
import {channelPair} from '../lib/fakechannel.js';

const MIB = 1 << 20;

/** @param {import('../lib/fakechannel.js').FakeChannel} channel @param {object} [options] */
const wrap = (channel, options) => new DataChannel(/** @type {any} */ (channel), options);

/** Returns two open channels, and what the second one receives. @param {object} [options] */
function connect(options) {
  const fakes = channelPair();
  const [one, two] = fakes.map(fake => wrap(fake, options));
  const received = collect(two);
  for (const fake of fakes) fake.open();
  return {one, two, fakes, received};
}

/** Collects the messages and errors of a channel. @param {DataChannel} channel */
function collect(channel) {
  /** @type {any[]} */
  const messages = [];
  channel.addEventListener('message', ({data}) => messages.push(data));
  channel.addEventListener('error', ({detail}) => messages.push(detail.code));
  return messages;
}

/** @param {() => boolean} isReached */
async function until(isReached) {
  for (const deadline = Date.now() + 20_000; !isReached();) {
    assert.ok(Date.now() < deadline, `timeout: ${isReached}`);
    await new Promise(resolve => setTimeout(resolve, 1));
  }
}

/** Encodes a frame with a number. @param {number} kind @param {number} count */
function numberFrame(kind, count) {
  const frame = new Uint8Array(9);
  frame[0] = kind;
  new DataView(frame.buffer).setFloat64(1, count);
  return frame;
}

test('messages of all kinds and sizes arrive in order', async () => {
  const {one, received} = connect();
  const bytes = new Uint8Array(200_000).map((_, i) => i * 3);
  await Promise.all([one.send('text'), one.send(''), one.send({a: [1]}), one.send(null), one.send(bytes), one.send(bytes.buffer), one.send(new Blob([bytes])), one.send(bytes.subarray(1, 3))]);
  await until(() => received.length === 8);
  assert.deepEqual(received.slice(0, 4), ['text', '', {a: [1]}, null]);
  for (const got of received.slice(4, 7)) assert.deepEqual(new Uint8Array(got), bytes);
  assert.deepEqual(new Uint8Array(received[7]), bytes.slice(1, 3));
});

test('frames have at most 64 KiB', async () => {
  const {one, fakes, received} = connect();
  await one.send(new Uint8Array(MIB));
  await until(() => received.length === 1);
  assert.ok(fakes[0].frames.length === 17 && fakes[0].frames.every(({length}) => length <= 65_536), `got ${fakes[0].frames.map(({length}) => length)}`);
});

test('bytes that change after send do not change the message', async () => {
  const {one, received} = connect();
  const bytes = Uint8Array.of(1, 2);
  const sent = one.send(bytes);
  bytes[0] = 9;
  await sent;
  await until(() => received.length === 1);
  assert.deepEqual(new Uint8Array(received[0]), Uint8Array.of(1, 2));
});

test('a send waits for the buffer of the browser', async () => {
  const {one, fakes: [fake], received} = connect();
  fake.stalled = true;
  let sent = false;
  const done = one.send(new Uint8Array(3 * MIB)).then(() => { sent = true; });
  await until(() => fake.bufferedAmount > MIB);
  await new Promise(resolve => setTimeout(resolve, 20));
  assert.ok(fake.bufferedAmount <= MIB + 65_536 && !sent, `got ${fake.bufferedAmount} bytes`);
  fake.stalled = false;
  fake.drain();
  await done;
  await until(() => received.length === 1);
});

test('a send waits for acknowledgements', async () => {
  const {one, fakes: [fake]} = connect();
  fake.cut = true;
  let count = 0;
  for (let i = 0; i < 4; i++) void one.send(new Uint8Array(MIB / 2)).then(() => count++, () => {});
  await until(() => count >= 1);
  await new Promise(resolve => setTimeout(resolve, 20));
  assert.ok(count < 3 && one.bufferedAmount === 2 * MIB, `got ${count} sends and ${one.bufferedAmount} bytes`);
  fake.cut = false;
  const number = fake.frames.filter(frame => frame[0] < 128).length;
  fake.receive(numberFrame(7, number));
  await until(() => count >= 3);
});

test('messages wait for the first listener', async () => {
  const [one, two] = channelPair();
  const sender = wrap(one), receiver = wrap(two);
  void sender.send('early');
  one.open();
  two.open();
  await until(() => two.frames.length > 0); // the acknowledgement
  const received = collect(receiver);
  await until(() => received.length === 1);
});

test('over another channel, what was not acknowledged is sent again, once and in order', async () => {
  const {one, two, fakes, received} = connect({onLost: () => {}});
  await one.send('1');
  await until(() => fakes[1].frames.length === 1);
  fakes[1].cut = true; // acknowledgements
  await one.send('2');
  await until(() => received.length === 2);
  fakes[0].cut = true;
  await one.send('3');
  const large = one.send(new Uint8Array(3 * MIB));
  await until(() => fakes[0].frames.length > 5);
  fakes[0].close();
  await until(() => one.readyState === 'connecting' && two.readyState === 'connecting');
  const last = one.send('5');
  const others = channelPair();
  [one, two].forEach((channel, i) => channel.attach(/** @type {any} */ (others[i])));
  for (const fake of others) fake.open();
  await Promise.all([large, last]);
  await until(() => received.length === 5);
  assert.deepEqual(received.filter(data => typeof data === 'string'), ['1', '2', '3', '5']);
  assert.equal(received[3].byteLength, 3 * MIB);
  await until(() => one.bufferedAmount === 0);
});

test('an aborted message does not arrive, also if a part was sent', async () => {
  const {one, fakes: [fake], received} = connect();
  const abort = new AbortController();
  fake.stalled = true;
  const first = one.send(new Uint8Array(3 * MIB), {signal: abort.signal});
  const second = one.send('second', {signal: abort.signal});
  const third = one.send('third');
  await until(() => fake.bufferedAmount > MIB);
  abort.abort(new Error('enough'));
  fake.stalled = false;
  fake.drain();
  await assert.rejects(first, /enough/);
  await assert.rejects(second, /enough/);
  await third;
  await until(() => received.length === 1);
  assert.deepEqual(received, ['third']);
  await assert.rejects(one.send('x', {signal: abort.signal}), /enough/);
});

test('too large messages are refused on both sides', async () => {
  const [one, two] = channelPair();
  const sender = wrap(one), small = wrap(two, {maxMessageBytes: 100_000});
  const received = collect(small);
  for (const fake of [one, two]) fake.open();
  await assert.rejects(small.send(new Uint8Array(100_001)), {code: 'too-large'});
  sender.send(new Uint8Array(100_001)).catch(() => {});
  await until(() => received.length === 1);
  assert.deepEqual(received, ['too-large']);
  assert.equal(small.readyState, 'closed');
  await until(() => sender.readyState === 'closed');
  await assert.rejects(sender.send('x'), {code: 'closed'});
});

test('messages without a listener are bounded, also empty ones', async () => {
  const [one, two] = channelPair();
  const receiver = wrap(two, {maxMessageBytes: 6_400});
  two.open();
  let error = '';
  receiver.addEventListener('error', ({detail}) => { error = detail.code; });
  for (let i = 0; i < 200 && !error; i++) two.receive(Uint8Array.of(0));
  assert.equal(error, 'too-large');
  one.close();
});

for (const [name, frame] of /** @type {[string, unknown][]} */ ([
  ['text', 'hello'], ['nothing', new Uint8Array(0)], ['an unknown kind', Uint8Array.of(9)], ['an unknown kind with more', Uint8Array.of(128 + 3, 1)],
  ['an empty part', Uint8Array.of(128)], ['invalid JSON', Uint8Array.of(2, 123)], ['an acknowledgement of what was not sent', numberFrame(7, 1)],
  ['a negative number', numberFrame(7, -1)], ['a fraction', numberFrame(7, 0.5)], ['no number', Uint8Array.of(7)], ['a resumption of what was not sent', numberFrame(8, 1)],
])) {
  test(`malformed: ${name}`, () => {
    const [, fake] = channelPair();
    const channel = wrap(fake);
    const received = collect(channel);
    fake.open();
    fake.receive(frame);
    fake.receive(Uint8Array.of(1, 65));
    assert.deepEqual([received, channel.readyState], [['malformed'], 'closed']);
  });
}

test('another kind within a message is malformed', () => {
  const [, fake] = channelPair();
  const errors = collect(wrap(fake));
  fake.open();
  fake.receive(Uint8Array.of(128 + 1, 65));
  fake.receive(Uint8Array.of(0, 65));
  assert.deepEqual(errors, ['malformed']);
});

test('close sends the rest first, and closes both sides', async () => {
  const {one, two, received} = connect({onLost: () => assert.fail('lost')});
  void one.send(new Uint8Array(2 * MIB));
  void one.send('last');
  await one.close();
  assert.deepEqual([one.readyState, received.at(-1)], ['closed', 'last']);
  await until(() => two.readyState === 'closed');
});

test('without onLost, the end of the channel is that of all sends', async () => {
  const {one, fakes: [fake]} = connect();
  fake.cut = true;
  const sends = [one.send(new Uint8Array(3 * MIB)), one.send('x')];
  fake.close();
  for (const send of sends) await assert.rejects(send, {code: 'closed'});
  await one.close();
});

test('ping', async () => {
  const {one, fakes: [fake]} = connect();
  assert.equal(await one.ping(10_000), true);
  fake.cut = true;
  assert.equal(await one.ping(10), false);
  const pinged = one.ping(3_600_000);
  fake.close();
  assert.equal(await pinged, false);
  assert.equal(await one.ping(3_600_000), false);
});

test('close a second time, and before the channel is open, loses nothing', async () => {
  const fakes = channelPair();
  const [one, two] = fakes.map(fake => wrap(fake));
  const received = collect(two);
  const sent = one.send(new Uint8Array(2 * MIB));
  void one.send('last');
  const closed = [one.close(), one.close()];
  assert.equal(one.readyState, 'closing');
  await assert.rejects(one.send('late'), {code: 'closed'});
  for (const fake of fakes) fake.open();
  await Promise.all([sent, ...closed]);
  assert.deepEqual([received.length, received.at(-1), one.readyState], [2, 'last', 'closed']);
});

test('close ends a channel that was not open, and returns when the connection is closed without an event', async t => {
  const [fake] = channelPair();
  await wrap(fake).close();
  await until(() => fake.readyState === 'closed');
  const {one, fakes} = connect();
  fakes[0].close = () => {};
  t.mock.timers.enable({apis: ['setTimeout']});
  const closed = one.close();
  one.abort();
  await closed; // its limit does not pass
});

test('the rest is sent over another channel when the first one is lost during close', async () => {
  const {one, two, fakes, received} = connect({onLost: () => {}});
  fakes[0].cut = true;
  void one.send('last');
  await until(() => fakes[0].frames.length > 0);
  const closed = one.close();
  fakes[0].close();
  await until(() => fakes[1].readyState === 'closed');
  const others = channelPair();
  [one, two].forEach((channel, i) => channel.attach(/** @type {any} */ (others[i])));
  for (const fake of others) fake.open();
  await closed;
  assert.deepEqual(received, ['last']);
  await until(() => two.readyState === 'closed');
});

test('a channel that is given up without an event while a send waits for its buffer', async () => {
  const {one, two, fakes, received} = connect({onLost: () => {}});
  fakes[0].stalled = fakes[0].cut = true;
  const sent = one.send(new Uint8Array(3 * MIB));
  await until(() => fakes[0].bufferedAmount > MIB);
  const others = channelPair();
  [one, two].forEach((channel, i) => {
    channel.detach();
    channel.attach(/** @type {any} */ (others[i]));
  });
  for (const fake of others) fake.open();
  await sent;
  await until(() => received.length === 1);
});

test('a channel that was created over a connection that was lost before the remote peer knew of it', async () => {
  const [dead] = channelPair();
  const others = channelPair();
  const one = wrap(dead, {onLost: () => {}}), two = wrap(others[1], {onLost: () => {}});
  dead.cut = true;
  dead.open();
  const [atOne, atTwo] = [one, two].map(collect);
  await one.send('1');
  one.detach();
  one.attach(/** @type {any} */ (others[0]));
  await Promise.all([two.send('2'), one.send('3'), ...others.map(fake => fake.open())]);
  await until(() => one.bufferedAmount + two.bufferedAmount === 0);
  assert.deepEqual([atOne, atTwo], [['2'], ['1', '3']]);
  others[1].receive(numberFrame(8, 0));
  assert.equal(two.readyState, 'closed', 'a second resumption');
});

test('a remote peer that accepts only small frames ends the channel', async () => {
  const {one, fakes: [fake]} = connect();
  fake.send = () => { throw new TypeError('larger than max-message-size'); };
  await assert.rejects(one.send('x'), {code: 'closed'});
  assert.equal(one.readyState, 'closed');
});

test('a byte order mark is a part of the text', async () => {
  const {one, received} = connect();
  await one.send('\ufeffhello');
  await until(() => received.length === 1);
  assert.equal(received[0], '\ufeffhello');
});

test('several channels share a memory, which is free again when a message is whole, has a listener, or its channel ends', () => {
  const memory = {used: 0, limit: 300_000};
  const fakes = Array.from({length: 4}, () => channelPair()[1]);
  const [one, two, three, four] = fakes.map(fake => wrap(fake, {memory}));
  for (const fake of fakes) fake.open();
  const part = new Uint8Array(65_536);
  part[0] = 128;
  fakes[0].receive(part);
  fakes[0].receive(part);
  assert.equal(memory.used, 2 * 65_535);
  fakes[1].receive(part);
  fakes[1].receive(Uint8Array.of(0, 1)); // the message is whole, and waits for a listener
  assert.equal(memory.used, 3 * 65_535 + 1 + 64);
  for (let i = 0; i < 3; i++) fakes[2].receive(part);
  assert.deepEqual([one, two, three].map(({readyState}) => readyState), ['open', 'open', 'closed']);
  assert.equal(memory.used, 3 * 65_535 + 1 + 64);
  collect(two);
  assert.equal(memory.used, 2 * 65_535);
  one.abort();
  assert.equal(memory.used, 0);
  fakes[3].receive(part);
  assert.equal(four.readyState, 'open');
});
