/**
 * The page of a two-way call. It joins the call at once where camera and
 * microphone are permitted, else on a press. Without them it still receives.
 */

import {OwnControls, bindPanel} from './call-controls.js';
import {advance, noticeOf, pictureNote, soundNote, viewOf, withProblem, withRemote} from './call-state.js';
import {joinCall} from './call-room.js';
import {missingNotice, permissionState} from './devices.js';
import {bindFullscreen, bindPictureInPicture, leaveFullscreen, leavePictureInPicture} from './fullscreen.js';
import {LocalMedia} from './media.js';
import {WakeLock, bindInvitation, bindStatus, find, isRefused, later, statusView} from './page.js';
import {Playback, bindPress} from './play.js';
import {CallEndpoint} from './session.js';
import * as strings from './strings.js';

/**
 * @typedef {import('./page.js').CallContext} Context
 * @typedef {import('./call-state.js').CallState} CallState
 * @typedef {import('./status.js').Notice} Notice
 */

/** Milliseconds to wait for the own picture before the call begins without it. */
const MEDIA_TIMEOUT = 2_000;
/** The key of session storage for the room whose call this tab is in. */
const IN_CALL = 'in-call';

const root = find('.call-layout', HTMLElement);
const picture = find('#picture', HTMLVideoElement);
const joinButton = find('#join', HTMLButtonElement);
const joinHint = find('#join-hint', HTMLElement);
const pictureNoteBox = find('#picture-note', HTMLElement);
const soundNoteBox = find('#sound-note', HTMLElement);

/** CallPage connects the endpoint, the own media and the elements of the page. */
class CallPage {
  /** @type {CallState} */
  #call = {state: 'waiting', live: false, remoteLive: false, connectedTo: '', endedBy: null};
  /** Replaces the hint of the notice until the next change, '' for none. */
  #hint = '';
  #media = new LocalMedia({devices: navigator.mediaDevices, permissionState});
  #playback = new Playback(picture);
  #wakeLock = new WakeLock();
  #controls = new OwnControls(this.#media, picture, () => this.#showHint(strings.call.screenCancelled));
  #context;
  #endpoint;
  #refresh;
  #panel;

  /** @param {Context} context */
  constructor(context) {
    this.#context = context;
    this.#endpoint = new CallEndpoint(context);
    this.#refresh = bindStatus(context, this.#endpoint, () => this.#notice);
    void bindInvitation(context, this.#endpoint, {page: 'call', other: 'call'});
    const stats = later.then(({StatsView}) => new StatsView(find('#stats', HTMLElement), () => this.#endpoint.getStats(), context.inbox));
    this.#panel = bindPanel(open => void stats.then(view => view.setOpen(open)));
    this.#bindPicture();
    this.#bindEvents();
  }

  async open() {
    if (isRefused(this.#endpoint)) return this.#update();
    const granted = await isGranted();
    this.#media.granted = granted;
    await this.#controls.fillLists();
    this.#update();
    this.#endpoint.open();
    if (granted || wasInCall(this.#context.room)) await this.#join();
  }

  get #superseded() {
    return this.#context.inbox.status === 'superseded';
  }

  get #remote() {
    return this.#endpoint.remote.media;
  }

  /** The notice without errors of the server. @returns {Notice} */
  get #notice() {
    const missing = missingNotice();
    const problem = missing ? {notice: missing, urgent: false} : this.#media.problem;
    const notice = withRemote(withProblem(noticeOf(this.#call), this.#call, problem), this.#call, this.#remote);
    return this.#hint ? {...notice, hint: this.#hint} : notice;
  }

  #bindPicture() {
    const button = find('#fullscreen', HTMLButtonElement);
    const controls = [find('.call-controls', HTMLElement), find('.picture-tools', HTMLElement), find('#panel', HTMLElement)];
    bindFullscreen({root, video: picture, button, controls});
    bindPictureInPicture(picture, find('#pip', HTMLButtonElement));
    bindPress(this.#playback, find('#press', HTMLButtonElement));
    // Any press is a gesture, and permits the sound.
    document.addEventListener('click', () => this.#playback.blocked && this.#playback.press());
  }

  #bindEvents() {
    const endpoint = this.#endpoint;
    endpoint.setMedia(this.#media.summary);
    endpoint.addEventListener('track', event => this.#playback.show(/** @type {CustomEvent} */ (event).detail.track));
    for (const event of ['state', 'remote']) endpoint.addEventListener(event, () => this.#onEndpointChange());
    this.#media.addEventListener('track', event => {
      const {kind, track} = /** @type {CustomEvent} */ (event).detail;
      void endpoint.setTrack(kind, track);
    });
    this.#media.addEventListener('change', () => {
      endpoint.setMedia(this.#media.summary);
      this.#hint = '';
      this.#update();
    });
    // The server rejects the signals, so the user has to try again.
    endpoint.addEventListener('error', () => endpoint.error?.kind === 'signal' && this.#end());
    this.#context.inbox.addEventListener('superseded', () => this.#leave());
    this.#context.inbox.addEventListener('status', () => isRefused(endpoint) && this.#leave());
    joinButton.addEventListener('click', () => this.#join());
    find('#hang-up', HTMLButtonElement).addEventListener('click', () => this.#end());
    find('#take-over', HTMLButtonElement).addEventListener('click', () => {
      endpoint.open();
      void this.#join();
    });
  }

  /** Joins the call, without waiting long for an answer about the camera. */
  async #join() {
    const hadFocus = document.activeElement === joinButton;
    this.#call = {...this.#call, live: true, connectedTo: '', endedBy: null};
    storeInCall(this.#context.room);
    this.#update();
    if (hadFocus) find('#microphone-button', HTMLButtonElement).focus();
    await Promise.race([this.#startMedia(), new Promise(resolve => setTimeout(resolve, MEDIA_TIMEOUT))]);
    if (this.#call.live && !this.#superseded) this.#endpoint.start();
  }

  async #startMedia() {
    await this.#media.start();
    await this.#controls.fillLists(); // labels are available after permission
  }

  #onEndpointChange() {
    const {state, remoteLive, remotePage, peer} = this.#endpoint;
    const {hungUp, ...call} = advance(this.#call, {state, remoteLive, remotePage});
    this.#call = call;
    if (!peer) this.#playback.clear();
    if (hungUp || isRefused(this.#endpoint)) this.#leave();
    else this.#update();
  }

  #end() {
    this.#call = {...this.#call, endedBy: 'us'};
    this.#leave();
  }

  /** Ends the call of this page: it sends and shows nothing more. */
  #leave() {
    const hadFocus = root.contains(document.activeElement); // hiding a control removes its focus
    this.#call = {...this.#call, live: false, connectedTo: ''};
    storeInCall(null);
    this.#endpoint.stop();
    this.#media.stop();
    this.#playback.clear();
    this.#panel.close();
    leaveFullscreen(root, picture);
    leavePictureInPicture(picture);
    this.#update();
    if (hadFocus) joinButton.focus();
  }

  /** @param {string} hint */
  #showHint(hint) {
    this.#hint = hint;
    this.#refresh();
  }

  /** Shows the state of the call. */
  #update() {
    const view = this.#superseded || isRefused(this.#endpoint) ? 'message' : viewOf(this.#call);
    setView(view);
    void this.#wakeLock.set(this.#endpoint.state === 'connected');
    this.#updateJoinButton();
    this.#updateNotes();
    this.#refresh();
  }

  #updateJoinButton() {
    const {live, remoteLive, endedBy} = this.#call;
    const again = remoteLive ? strings.call.answer : strings.call.callAgain;
    joinButton.textContent = endedBy ? again : strings.call.join;
    joinButton.hidden = live;
    joinHint.textContent = missingNotice() ? strings.call.missingHint : strings.call.joinHint;
    joinHint.hidden = live || endedBy !== null || this.#media.granted || this.#media.camera.wanted;
  }

  #updateNotes() {
    const connected = this.#call.state === 'connected';
    showNote(pictureNoteBox, connected ? pictureNote(this.#remote) : null);
    showNote(soundNoteBox, connected ? soundNote(this.#remote) : null);
    picture.classList.toggle('without-picture', connected && pictureNote(this.#remote) !== null);
  }
}

/** @param {import('./call-state.js').View | 'full' | 'message'} view */
function setView(view) {
  document.body.dataset.view = view;
  document.body.classList.toggle('without-stage', view === 'ended' || view === 'full' || view === 'message');
}

/**
 * @param {HTMLElement} box
 * @param {string | null} text
 */
function showNote(box, text) {
  box.hidden = text === null;
  const element = box.querySelector('p, span');
  if (element && text !== null) element.textContent = text;
}

/**
 * Whether the browser asks nothing: each permission is decided, and one is granted.
 * A browser that does not tell counts as one that asks.
 */
async function isGranted() {
  if (missingNotice()) return false;
  const states = await Promise.all([permissionState('video'), permissionState('audio')]);
  return states.includes('granted') && states.every(state => state === 'granted' || state === 'denied');
}

/**
 * Whether this tab was in the call of a room before it was reloaded. Without
 * storage, the user presses the button again.
 * @param {import('./room.js').Room} room
 */
function wasInCall({id}) {
  try {
    return sessionStorage.getItem(IN_CALL) === id;
  } catch {
    return false;
  }
}

/** @param {import('./room.js').Room | null} room */
function storeInCall(room) {
  try {
    if (room) sessionStorage.setItem(IN_CALL, room.id);
    else sessionStorage.removeItem(IN_CALL);
  } catch {
    // storage is blocked
  }
}

/**
 * Says that two other devices are in the call. The room is watched meanwhile.
 * @param {(slot: import('./room.js').Slot) => void} take
 */
function showFull(take) {
  setView('full');
  statusView.show({tone: 'calm', title: strings.call.fullTitle, hint: strings.call.fullHint});
  find('#full', HTMLElement).hidden = false;
  find('#take-a', HTMLButtonElement).addEventListener('click', () => take('a'));
  find('#take-b', HTMLButtonElement).addEventListener('click', () => take('b'));
}

const context = await joinCall({onFull: showFull});
find('#full', HTMLElement).hidden = true;
if (context) await new CallPage(context).open();
else setView('message');
