/** Tests room.js and the QR codes of its links. */

import assert from 'node:assert/strict';
import {test} from 'node:test';
import jsQR from 'jsqr';
import {Room} from '../../../public/room.js';
import {encode} from '../../../public/third-party/uqr.js';

test('an empty fragment creates a room with 128-bit values', () => {
  const rooms = Array.from({length: 100}, () => Room.from(''));
  for (const room of rooms) assert.match(room?.fragment ?? '', /^#[\w-]{22}\.[\w-]{22}$/);
  assert.equal(new Set(rooms.flatMap(room => [room?.id, room?.secret])).size, 200);
  assert.ok(Room.from('#'));
});

test('a link leads both sides to the same room', async () => {
  const room = /** @type {Room} */ (Room.from(''));
  const link = new URL(room.link('receive', 'https://example.org/under/send.html?x#y'));
  assert.equal(link.origin + link.pathname, 'https://example.org/under/receive.html');
  const remote = /** @type {Room} */ (Room.from(link.hash));
  assert.deepEqual(await remote.credentials('send'), await room.credentials('send'));
});

test('an invalid fragment is rejected', () => {
  const {fragment} = /** @type {Room} */ (Room.from(''));
  for (const damaged of ['#x', fragment.slice(0, -1), `${fragment}x`, fragment.replace('.', ''), fragment.replace(/.$/, '=')]) {
    assert.equal(Room.from(damaged), null, damaged);
  }
});

test('each side has its own name and password, and neither reveals the secret', async () => {
  const room = new Room('r'.repeat(22), 's'.repeat(22));
  const [send, receive] = await Promise.all([room.credentials('send'), room.credentials('receive')]);
  assert.equal(send.name, `${room.id}-send`);
  assert.notEqual(send.password, receive.password);
  assert.match(send.password, /^[\w-]{43}$/);
  assert.ok(!send.password.includes('sss'));
  const other = await new Room(room.id, 't'.repeat(22)).credentials('send');
  assert.notEqual(other.password, send.password);
});

test('a QR code decodes to its link', () => {
  const link = /** @type {Room} */ (Room.from('')).link('receive', 'https://a-rather-long-name.example.org:3000/send.html');
  const {size, data} = encode(link, {ecc: 'L', border: 4});
  const scale = 4;
  const side = size * scale;
  const pixels = new Uint8ClampedArray(side * side * 4);
  for (let i = 0; i < side * side; i++) {
    const dark = data[Math.floor(i / side / scale)][Math.floor((i % side) / scale)];
    pixels.set([0, 0, 0, 255].map((value, channel) => (channel < 3 && !dark ? 255 : value)), i * 4);
  }
  const read = /** @type {any} */ (jsQR)(pixels, side, side) ?? /** @type {any} */ (jsQR).default?.(pixels, side, side);
  assert.equal(read?.data, link);
});
