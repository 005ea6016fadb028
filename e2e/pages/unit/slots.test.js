/** Tests slots.js with inboxes that know which mailboxes are taken, and room.js's roles. */

import assert from 'node:assert/strict';
import {test} from 'node:test';
import {SlotMemory, retryFreeSlot, takeFreeSlot, takeSlot} from '../../../public/slots.js';

/** @typedef {import('../../../public/room.js').Slot} Slot */

/** @param {Slot[]} taken */
function makeInboxes(taken) {
  /** @type {string[]} */
  const log = [];
  const createInbox = async (/** @type {Slot} */ slot) => /** @type {any} */ ({
    start: async ({resume = false} = {}) => {
      log.push(`${slot}${resume ? ' if free' : ''}`);
      return !resume || !taken.includes(slot);
    },
    close: () => log.push(`close ${slot}`),
  });
  return {log, createInbox};
}

for (const [name, own, made, taken, want, log] of /** @type {[string, Slot | null, boolean, Slot[], Slot | undefined, string[]][]} */ ([
  ['the page that made the room', null, true, [], 'a', ['a']],
  ['the page with the link', null, false, ['a'], 'b', ['b if free']],
  ['two pages with the link, the second one', null, false, ['b'], 'a', ['b if free', 'close b', 'a if free']],
  ['a reloaded page', 'b', false, ['a', 'b'], 'b', ['b']],
  ['a third device', null, false, ['a', 'b'], undefined, ['b if free', 'close b', 'a if free', 'close a']],
])) {
  test(`${name} gets ${want ? `slot ${want}` : 'no slot'}`, async () => {
    const inboxes = makeInboxes(taken);
    const place = await takeFreeSlot({createInbox: inboxes.createInbox, own, made});
    assert.equal(place?.slot, want);
    assert.deepEqual(inboxes.log, log);
  });
}

test('a slot is taken over on request', async () => {
  const {log, createInbox} = makeInboxes(['a', 'b']);
  assert.equal((await takeSlot(createInbox, 'a')).slot, 'a');
  assert.deepEqual(log, ['a']);
});

test('a slot is remembered for its room, and works without storage', () => {
  /** @type {Map<string, string>} */
  const items = new Map();
  const storage = () => /** @type {any} */ ({
    getItem: (/** @type {string} */ key) => items.get(key) ?? null,
    setItem: (/** @type {string} */ key, /** @type {string} */ value) => items.set(key, value),
    removeItem: (/** @type {string} */ key) => items.delete(key),
  });
  const memory = new SlotMemory('room', storage);
  assert.equal(memory.get(), null);
  memory.set('b');
  assert.equal(memory.get(), 'b');
  assert.equal(new SlotMemory('another', storage).get(), null);
  items.set('slot room', 'c');
  assert.equal(memory.get(), null);
  memory.set(null);
  assert.equal(items.size, 0);
  const blocked = new SlotMemory('room', () => { throw new DOMException('', 'SecurityError'); });
  blocked.set('a');
  assert.equal(blocked.get(), null);
});

test('attempts to take a free slot do not pile up while the server cannot be reached', async t => {
  t.mock.timers.enable({apis: ['setInterval']});
  /** @type {((free: boolean) => void)[]} */
  const answers = [];
  const createInbox = async () => /** @type {any} */ ({start: () => new Promise(resolve => answers.push(resolve)), close: () => {}});
  /** @type {(string | undefined)[]} */
  const places = [];
  const stop = retryFreeSlot(createInbox, place => places.push(place?.slot), 1000);
  const next = async (/** @type {number} */ milliseconds) => {
    t.mock.timers.tick(milliseconds);
    await new Promise(resolve => setImmediate(resolve));
  };
  for (let i = 0; i < 5; i++) await next(1000);
  assert.equal(answers.length, 1);
  answers[0](true);
  await next(0);
  assert.deepEqual(places, ['b']);
  await next(1000);
  assert.equal(answers.length, 2);
  stop();
  await next(5000);
  assert.equal(answers.length, 2);
});
