/**
 * The camera's page: choose, press start, be seen.
 */

import {DeviceList, NONE, SCREEN, capture, refusal} from './devices.js';
import {SendingEnd} from './ends.js';
import {WakeLock, enter, find, report} from './page.js';

/**
 * @typedef {import('./status.js').Notice} Notice
 * @typedef {import('./devices.js').Kind} Kind
 */

/** @type {Record<import('./ends.js').EndState, Notice>} what there is to say before start */
const before = {
  waiting: {tone: 'calm', title: 'Ready when you are', hint: 'Choose a camera and press start. The other screen may come before or after.'},
  here: {tone: 'calm', title: 'The other screen is waiting', hint: 'Choose a camera and press start.'},
  connecting: {tone: 'busy', title: 'Connecting'},
  connected: {tone: 'good', title: 'Connected'},
  reconnecting: {tone: 'busy', title: 'Reconnecting'},
};

/** @type {Record<import('./ends.js').EndState, Notice>} what there is to say after start */
const after = {
  waiting: {tone: 'busy', title: 'Waiting for the other screen', hint: 'Open the link there, or scan the code with it.'},
  here: {tone: 'busy', title: 'Connecting', hint: 'The other screen is there.'},
  connecting: {tone: 'busy', title: 'Connecting', hint: 'The other screen is there.'},
  connected: {tone: 'good', title: 'Connected', hint: 'The other screen shows your camera.'},
  reconnecting: {tone: 'busy', title: 'Connection lost, reconnecting', hint: 'It comes back by itself.'},
};

const preview = find('#preview', HTMLVideoElement);
const startButton = find('#start', HTMLButtonElement);
const stopButton = find('#stop', HTMLButtonElement);
const takeOver = find('#take-over', HTMLButtonElement);
const lists = {
  video: new DeviceList(find('#camera', HTMLSelectElement), 'video'),
  audio: new DeviceList(find('#microphone', HTMLSelectElement), 'audio'),
};
/** @type {Record<Kind, MediaStreamTrack | null>} */
const tracks = {video: null, audio: null};
const wakeLock = new WakeLock();
/** @type {Record<Kind, string | undefined>} the choice that each track was taken for */
const taken = {video: undefined, audio: undefined};
/** @type {Record<Kind, Notice | null>} why there is no picture or no sound, when the fault is here */
const faults = {video: null, audio: null};
/** A word on the side, until the camera is chosen or started again. */
let aside = '';
let taking = Promise.resolve(true);

const ground = await enter('send');
if (ground) await run(ground);

/** @param {import('./page.js').Ground} ground */
async function run(ground) {
  const end = new SendingEnd(ground);
  const refresh = report(ground, end, () => faults.video ?? withAsides((end.live ? after : before)[end.state]));
  end.addEventListener('state', () => wakeLock.set(end.state === 'connected'));
  const stop = () => stopAll(end, refresh);
  ground.inbox.addEventListener('superseded', stop);
  end.addEventListener('fault', () => end.fault?.kind === 'signal' && stop());
  startButton.addEventListener('click', () => start(end, refresh));
  stopButton.addEventListener('click', stop);
  takeOver.addEventListener('click', () => end.open());
  for (const kind of /** @type {Kind[]} */ (['video', 'audio'])) {
    find(kind === 'video' ? '#camera' : '#microphone', HTMLSelectElement)
      .addEventListener('change', () => choose(end, kind, refresh));
  }
  navigator.mediaDevices.addEventListener('devicechange', fillLists);
  await fillLists();
  startButton.disabled = false;
  refresh();
  end.open();
}

/**
 * What is no trouble, yet to be said, takes the place of the hint. A call
 * without sound is still a call.
 * @param {Notice} notice
 * @returns {Notice}
 */
function withAsides(notice) {
  if (aside) return {...notice, hint: aside};
  return faults.audio ? {...notice, hint: `Without sound: ${faults.audio.title.toLowerCase()}.`} : notice;
}

async function fillLists() {
  const devices = await navigator.mediaDevices.enumerateDevices();
  lists.video.fill(devices);
  lists.audio.fill(devices);
}

/**
 * @param {SendingEnd} end
 * @param {() => void} refresh
 */
async function start(end, refresh) {
  const held = document.activeElement === startButton; // which it loses by being disabled
  startButton.disabled = true;
  end.blame(null);
  if (superseded(end)) end.open(); // who presses start means this tab
  try {
    // The camera first: without it there is nothing to start.
    if (!(await take(end, 'video', refresh))) return;
    await take(end, 'audio', refresh);
    if (superseded(end)) stopAll(end, refresh); // while the person was asked for permission
    else end.start();
  } finally {
    startButton.disabled = false;
    showLive(end, refresh, held && document.activeElement === document.body);
  }
}

/** @param {SendingEnd} end */
function superseded(end) {
  return end.inbox.status === 'superseded';
}

/**
 * @param {SendingEnd} end
 * @param {() => void} refresh
 */
function stopAll(end, refresh) {
  end.stop();
  drop('video');
  drop('audio');
  aside = '';
  faults.video = faults.audio = null;
  showLive(end, refresh);
}

/**
 * Another choice in a list takes effect at once; before start it is shown in
 * the preview only.
 * @param {SendingEnd} end
 * @param {Kind} kind
 * @param {() => void} refresh
 */
async function choose(end, kind, refresh) {
  if (kind === 'video' || end.live) await take(end, kind, refresh);
  showLive(end, refresh);
}

/**
 * Takes a track of the chosen device in place of the one before, and reports
 * whether that went well. One after the other: of two at once, one track would
 * be left running with nobody to stop it.
 * @param {SendingEnd} end
 * @param {Kind} kind
 * @param {() => void} refresh
 */
function take(end, kind, refresh) {
  taking = taking.catch(() => false).then(() => takeNow(end, kind, refresh));
  return taking;
}

/**
 * @param {SendingEnd} end
 * @param {Kind} kind
 * @param {() => void} refresh
 */
async function takeNow(end, kind, refresh) {
  const {choice} = lists[kind];
  if (kind === 'video') aside = '';
  if (choice === taken[kind] && (choice === NONE || tracks[kind]?.readyState === 'live')) return true;
  if (choice !== SCREEN) drop(kind); // first: some cameras cannot be opened twice
  try {
    const track = await capture(kind, choice);
    drop(kind);
    track?.addEventListener('ended', () => lose(end, kind, track, refresh));
    tracks[kind] = track;
    faults[kind] = null;
  } catch (error) {
    if (choice === SCREEN) return keep();
    faults[kind] = refusal(error, kind);
  }
  await end.setTrack(kind, tracks[kind]);
  if (kind === 'video') preview.srcObject = tracks.video && new MediaStream([tracks.video]);
  await fillLists(); // permission brings the labels
  taken[kind] = lists[kind].settle(tracks[kind]);
  return !faults[kind];
}

/** Most often the person thought better of showing the screen: all stays as it was. */
function keep() {
  lists.video.back();
  aside = 'The screen was not shared.';
  return false;
}

/** @param {Kind} kind */
function drop(kind) {
  tracks[kind]?.stop();
  tracks[kind] = null;
  if (kind === 'video') preview.srcObject = null;
}

/**
 * A device was unplugged, or taken away by the person or another program.
 * @param {SendingEnd} end
 * @param {Kind} kind
 * @param {MediaStreamTrack} track
 * @param {() => void} refresh
 */
function lose(end, kind, track, refresh) {
  if (tracks[kind] !== track) return;
  if (kind === 'video') stopAll(end, refresh);
  faults[kind] = ended(kind);
  refresh();
}

/**
 * @param {Kind} kind
 * @returns {Notice}
 */
function ended(kind) {
  const hint = 'Choose another in the list, or press start again.';
  if (kind === 'video' && taken.video === SCREEN) return {tone: 'calm', title: 'The screen is not shared any more', hint};
  return {tone: 'bad', title: `The ${kind === 'video' ? 'camera' : 'microphone'} has stopped`, hint};
}

/** Whether the keyboard is on one of the two buttons that take each other's place. */
function buttonHeld() {
  return document.activeElement === startButton || document.activeElement === stopButton;
}

/**
 * @param {SendingEnd} end
 * @param {() => void} refresh
 */
function showLive(end, refresh, held = buttonHeld()) {
  startButton.hidden = end.live;
  stopButton.hidden = !end.live;
  document.body.classList.toggle('live', end.live);
  document.body.classList.toggle('previewing', Boolean(tracks.video));
  if (held) (end.live ? stopButton : startButton).focus(); // a hidden button would lose the keyboard
  refresh();
}
