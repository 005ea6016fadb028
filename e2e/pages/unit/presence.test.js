/** Tests presence.js with the BroadcastChannel of Node.js. */

import assert from 'node:assert/strict';
import {afterEach, test} from 'node:test';
import {Presence, deviceName} from '../../../public/presence.js';

/** @type {Presence[]} */
let open = [];
afterEach(() => {
  for (const presence of open) presence.close();
  open = [];
});

/** @param {string} mailbox @param {boolean} active */
function openPresence(mailbox, active) {
  const presence = new Presence(mailbox, () => active);
  open.push(presence);
  return presence;
}

test('a tab with the mailbox answers', async () => {
  openPresence('room-a', true);
  assert.equal(await openPresence('room-a', false).find(), 'tab');
});

test('tabs without the mailbox, or with another one, do not answer', async () => {
  openPresence('room-a', false);
  openPresence('room-b', true);
  assert.equal(await openPresence('room-a', false).find(), 'device');
});

test('a browser without BroadcastChannel does not know', async () => {
  assert.equal(await new Presence('room-a', () => true, () => null).find(), 'unknown');
});

for (const [userAgent, want] of [
  ['Mozilla/5.0 (Android 15; Mobile; rv:140.0) Gecko/140.0 Firefox/140.0', 'Firefox on Android'],
  ['Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0', 'Edge on Windows'],
  ['Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36', 'Chrome on Linux'],
  ['Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1', 'Safari on iPhone'],
  ['Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/140.0 Mobile/15E148 Safari/604.1', 'Chrome on iPhone'],
  ['Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15', 'Safari on Mac'],
  ['curl/8.5', ''],
]) {
  test(`the name of a device: ${want || 'unknown'}`, () => assert.equal(deviceName(userAgent), want));
}
