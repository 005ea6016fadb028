/** Tests which of several clients of a mailbox gets the messages. */

import assert from 'node:assert/strict';
import {once} from 'node:events';
import {test} from 'node:test';
import {flushPromises, openInbox} from '../lib/inboxes.js';

/** Mailbox answers as the server does to several clients of one mailbox, and can be unreachable. */
class Mailbox {
  receiver = '';
  /** @type {string[]} */
  polls = [];
  /** @type {string[]} the senders of the stored messages */
  sent = [];
  /** @type {Set<string>} the clients without a network */
  offline = new Set();
  /** @type {Map<string, (response: Response) => void>} the waiting polls, by client */
  waiting = new Map();

  /** @param {string} client */
  open(client) {
    return openInbox('http://localhost/inbox', {client, fetch: (url, init) => this.#fetch(client, String(url), init)});
  }

  /** Ends the connections of a client. @param {string} client */
  disconnect(client) {
    this.offline.add(client);
    this.waiting.get(client)?.(Response.error());
    this.waiting.delete(client);
  }

  /** @param {string} client @param {string} url @param {RequestInit} [init] @returns {Promise<Response>} */
  #fetch(client, url, {method, signal} = {}) {
    if (this.offline.has(client)) return Promise.reject(new TypeError('offline'));
    const query = new URL(url).searchParams;
    if (method === 'POST') return Promise.resolve((this.sent.push(client), new Response()));
    assert.equal(query.get('client'), client);
    this.polls.push(`${client}${query.has('resume') ? ' resumes' : ''}`);
    if (query.has('resume') && this.receiver && this.receiver !== client) {
      return Promise.resolve(new Response('{"type":"urn:inbox:problem:other-receiver","title":"t"}', {status: 409}));
    }
    this.#supersede(client);
    if (query.get('wait') === '0') return Promise.resolve(new Response(null, {status: 204}));
    return new Promise((resolve, reject) => {
      this.waiting.set(client, response => response.type === 'error' ? reject(new TypeError('lost')) : resolve(response));
      signal?.addEventListener('abort', () => reject(signal.reason));
    });
  }

  /** @param {string} client */
  #supersede(client) {
    if (this.receiver !== client) this.waiting.get(this.receiver)?.(new Response(null, {status: 204, headers: {'X-Poll-Ended': 'superseded'}}));
    this.receiver = client;
  }
}

test('the client that was started last gets the messages, and another start takes over again', async () => {
  const mailbox = new Mailbox();
  const [first, second] = [mailbox.open('first'), mailbox.open('second')];
  assert.equal(await first.start(), true);
  await flushPromises();
  const superseded = once(first, 'superseded');
  assert.equal(await second.start(), true);
  assert.equal((await superseded)[0].detail, 'replaced');
  assert.equal(first.status, 'superseded');
  await assert.rejects(first.send('bob', 'x'), {code: 'superseded'});
  assert.equal(await first.start(), true);
  await first.send('bob', 'x');
  await flushPromises();
  assert.equal(second.status, 'superseded');
  assert.deepEqual(mailbox.polls.slice(0, 3), ['first', 'first resumes', 'second']);
});

test('a client that was away resumes if no other one was started', async () => {
  const mailbox = new Mailbox();
  const inbox = mailbox.open('phone');
  await inbox.start();
  await flushPromises();
  mailbox.disconnect('phone');
  await once(inbox, 'error');
  mailbox.offline.clear();
  while (inbox.status !== 'open') await once(inbox, 'status');
  assert.deepEqual(new Set(mailbox.polls.slice(1)), new Set(['phone resumes']));
});

test('a client that was away leaves the mailbox to one that was started meanwhile, and sends nothing', async () => {
  const mailbox = new Mailbox();
  const [phone, laptop] = [mailbox.open('phone'), mailbox.open('laptop')];
  await phone.start();
  await flushPromises();
  mailbox.disconnect('phone');
  await once(phone, 'error');
  const hello = assert.rejects(phone.send('bob', 'x'), {code: 'superseded'});
  await laptop.start();
  await flushPromises();
  mailbox.offline.clear();
  const [{detail}] = await once(phone, 'superseded');
  assert.equal(detail, 'other-receiver');
  await hello;
  assert.deepEqual([phone.status, laptop.status, mailbox.receiver, mailbox.sent], ['superseded', 'open', 'laptop', []]);
});

test('start with resume tells whether the mailbox was free', async () => {
  const mailbox = new Mailbox();
  const [first, second] = [mailbox.open('first'), mailbox.open('second')];
  assert.equal(await first.start({resume: true}), true);
  assert.equal(await second.start({resume: true}), false);
  assert.deepEqual([first.status, second.status], ['open', 'superseded']);
  assert.equal(await second.start(), true);
});

test('a poll that was never answered does not take the mailbox over later', async () => {
  const mailbox = new Mailbox();
  mailbox.offline.add('phone');
  const [phone, laptop] = [mailbox.open('phone'), mailbox.open('laptop')];
  const started = phone.start();
  await once(phone, 'error');
  await laptop.start();
  mailbox.offline.clear();
  assert.equal(await started, false);
});

test('a pending send ends when the inbox is superseded', async () => {
  const mailbox = new Mailbox();
  const inbox = openInbox('http://localhost/inbox', {
    fetch: (url, {method, signal} = {}) => new Promise((resolve, reject) => {
      signal?.addEventListener('abort', () => reject(signal.reason));
      if (method === 'GET' && String(url).endsWith('wait=0')) return resolve(new Response(null, {status: 204}));
      if (method === 'GET') mailbox.waiting.set('', resolve);
    }),
  });
  let errors = 0;
  inbox.addEventListener('error', () => errors++);
  await inbox.start();
  const pending = assert.rejects(inbox.send('absent', 'x', {wait: Infinity}), {code: 'superseded'});
  await flushPromises();
  mailbox.waiting.get('')?.(new Response(null, {status: 204, headers: {'X-Poll-Ended': 'superseded'}}));
  await pending;
  assert.equal(errors, 0);
});

test('a closed inbox does not start', async () => {
  const inbox = new Mailbox().open('phone');
  inbox.close();
  assert.equal(await inbox.start(), false);
});
