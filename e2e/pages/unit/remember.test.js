/** Tests remember.js: the rooms that are kept on a device. */

import assert from 'node:assert/strict';
import {test} from 'node:test';
import {RememberedRooms, cleanName, linkOf} from '../../../public/remember.js';

/** A storage in memory. */
class FakeStorage {
  /** @type {string | null} */
  value = null;
  getItem() { return this.value; }
  /** @param {string} _key @param {string} value */
  setItem(_key, value) { this.value = value; }
  removeItem() { this.value = null; }
}

/** @param {string} letter @param {number} used @returns {import('../../../public/remember.js').RememberedRoom} */
const room = (letter, used) => ({id: letter.repeat(22), secret: 's'.repeat(22), page: 'call', name: letter, used});

function open() {
  const storage = new FakeStorage();
  return {storage, rooms: new RememberedRooms(() => storage)};
}

test('rooms are kept, changed and forgotten', () => {
  const {storage, rooms} = open();
  assert.deepEqual(rooms.list(), []);
  assert.ok(rooms.remember(room('a', 1)) && rooms.remember(room('b', 2)));
  assert.deepEqual(rooms.list(), [room('b', 2), room('a', 1)], 'the last used one is first');
  assert.ok(rooms.update('a'.repeat(22), {name: '  Kitchen\n\tcamera ', used: 3, slot: 'b'}));
  assert.deepEqual(rooms.find('a'.repeat(22)), {...room('a', 3), name: 'Kitchen camera', slot: 'b'});
  assert.equal(rooms.list()[0].name, 'Kitchen camera');
  assert.ok(!rooms.update('c'.repeat(22), {used: 4}), 'a room that is not kept stays so');
  assert.equal(linkOf(rooms.list()[0]), `call.html#${'a'.repeat(22)}.${'s'.repeat(22)}`);
  rooms.forget('a'.repeat(22));
  rooms.forget('b'.repeat(22));
  assert.deepEqual([rooms.list(), storage.value], [[], null], 'nothing is left of the secrets');
});

test('the rooms that were not used for the longest time are dropped', () => {
  const {rooms} = open();
  const letters = [...'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnop'];
  letters.forEach((letter, i) => rooms.remember(room(letter, i)));
  assert.equal(rooms.list().length, 30);
  assert.equal(rooms.list()[0].name, 'p');
});

test('names cannot disturb the text around them', () => {
  assert.equal(cleanName('غرفة المعيشة'), 'غرفة المعيشة');
  assert.equal(cleanName('a\u202eb\u2066c\u0000d\u200ee'), 'a b c d e');
  assert.equal(cleanName('👩‍👩‍👧 home'), '👩‍👩‍👧 home', 'emoji stay whole');
  assert.equal([...cleanName('😀'.repeat(100))].length, 60);
  assert.equal(cleanName('x'.repeat(59) + ' y z').length, 59);
});

test('what is not a room is ignored', () => {
  const {storage, rooms} = open();
  const valid = room('a', 1);
  for (const value of ['', '{', 'null', '{}', '"text"', '7', '[null, 7, "x", [], {}]']) {
    storage.value = value;
    assert.deepEqual(rooms.list(), [], value);
  }
  storage.value = JSON.stringify([valid, {...valid, page: 'evil'}, {...valid, id: '../x'}, {...valid, secret: 7}, {...valid, id: 'b'.repeat(22), name: 9, used: 'now', slot: 'c', more: 1}]);
  assert.deepEqual(rooms.list(), [valid, {id: 'b'.repeat(22), secret: valid.secret, page: 'call', name: '', used: 0}]);
});

test('blocked and full storage keep nothing', () => {
  const blocked = new RememberedRooms(() => { throw new DOMException('denied', 'SecurityError'); });
  assert.deepEqual([blocked.list(), blocked.remember(room('a', 1)), blocked.forget('x'), blocked.update('x', {})], [[], false, false, false]);
  const storage = new FakeStorage();
  storage.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); };
  assert.equal(new RememberedRooms(() => storage).remember(room('a', 1)), false);
});
