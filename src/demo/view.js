// What is seen: lists, messages, calls. Whatever others said becomes text, never markup.

const byId = (id) => document.getElementById(id);

export function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

export function button(text, className, act) {
  const made = element("button", className, text);
  made.type = "button";
  made.addEventListener("click", act);
  return made;
}

const initials = (name) =>
  name.split(/\s+/u).slice(0, 2).map((word) => [...word][0] ?? "").join("").toUpperCase();

export function paintAvatar(avatar, { name, hue }) {
  avatar.className = "avatar";
  avatar.textContent = initials(name);
  avatar.style.setProperty("--hue", hue);
  return avatar;
}

const avatarOf = (profile) => paintAvatar(element("span"), profile);

/** One line of a list that can be chosen. */
function row(lead, text, { key, current, unread, act }) {
  const item = element("li");
  item.dataset.key = key;
  const choose = button("", "row", act);
  if (current) choose.setAttribute("aria-current", "true");
  choose.append(lead, element("span", "row-name", text));
  if (unread > 0) choose.append(element("span", "unread", String(unread)));
  item.append(choose);
  return item;
}

/**
 * Makes the children of a list those items. The line of a key stays, whatever is on it: a click
 * that is under way would be lost with its button.
 */
function update(list, items) {
  items.forEach((item, at) => {
    const old = list.children[at];
    if (!old) list.append(item);
    else if (old.dataset.key !== item.dataset.key) old.replaceWith(item);
    else refresh(old.firstElementChild, item.firstElementChild);
  });
  while (list.children.length > items.length) list.lastElementChild.remove();
}

function refresh(line, wanted) {
  if (line.isEqualNode(wanted)) return;
  line.toggleAttribute("aria-current", false);
  if (wanted.ariaCurrent) line.setAttribute("aria-current", wanted.ariaCurrent);
  line.replaceChildren(...wanted.childNodes);
}

export function showRooms(rooms, current, choose) {
  const items = [...rooms.values()].map((room) =>
    row(element("span", "hash", "#"), room.name, {
      key: room.name,
      current: current === room,
      unread: room.unread,
      act: () => choose(room),
    }),
  );
  update(byId("rooms"), items);
}

/** `people` are `{ profile, current, unread }`, the first of them this tab's own. */
export function showPeople(people, choose) {
  const [own, ...others] = people;
  const self = element("li", "self");
  const line = element("span", "row");
  line.append(avatarOf(own.profile), element("span", "row-name", `${own.profile.name} (you)`));
  self.append(line);
  const items = others.map(({ profile, current, unread }) =>
    row(avatarOf(profile), profile.name, {
      key: profile.key,
      current,
      unread,
      act: () => choose(profile),
    }),
  );
  update(byId("here"), [self, ...items]);
  byId("here-count").textContent = String(people.length);
  byId("people-tab-count").textContent = String(people.length);
  byId("alone").hidden = others.length > 0;
}

function messageItem({ kind, from, own, text, at, via, again, waits }) {
  if (kind === "event") return element("li", "event", text);
  const item = element("li", own ? "message own" : "message");
  item.style.setProperty("--hue", from.hue);
  const head = element("p", "said-by");
  const time = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  head.append(element("strong", "", own ? "You" : from.name), element("time", "", time));
  if (via) head.append(element("span", "via", via));
  const body = element("div", "bubble");
  body.append(head, element("p", "said", text));
  if (waits) body.append(element("p", "unsent", "Waiting for the connection."));
  if (again) {
    const line = element("p", "unsent", "Not sent. ");
    line.append(button("Send again", "small", again));
    body.append(line);
  }
  item.append(avatarOf(from), body);
  return item;
}

export function showMessages({ messages }) {
  const list = byId("messages");
  list.replaceChildren(...messages.map(messageItem));
  list.scrollTop = list.scrollHeight;
}

/** The head of the conversation; `person` is there in a conversation with one. */
export function showHead({ title, hint, person, room, canCall }) {
  byId("talk-title").textContent = title;
  byId("talk-hint").textContent = hint;
  byId("back").hidden = !person;
  byId("back-name").textContent = room ? `#${room}` : "back";
  byId("share").hidden = Boolean(person);
  byId("leave").hidden = Boolean(person);
  byId("link-up").hidden = !person;
  byId("video").hidden = !person;
  byId("link-up").disabled = !canCall;
  byId("video").disabled = !canCall;
  byId("text").placeholder = person ? `Message to ${title} alone` : `Message to ${title}`;
}

/** The number of what has not been read, on a tab. */
export function showBadge(id, unread) {
  byId(id).hidden = unread === 0;
  byId(id).textContent = String(unread);
}

const FRAMES_MAX = 60;
const WAYS = { in: "↓", out: "↑", fact: "·" };

/** Adds a frame to the raw ones. */
export function showFrame({ way, text, at }) {
  const list = byId("frames");
  const line = element("li", way);
  const time = at.toLocaleTimeString([], { hour12: false });
  line.append(element("span", "", WAYS[way]), element("time", "", time), element("code", "", text));
  list.append(line);
  while (list.childElementCount > FRAMES_MAX) list.firstChild.remove();
  list.scrollTop = list.scrollHeight;
}

export function showState(state) {
  const words = {
    connecting: "connecting", open: "connected", lost: "connection lost, returning", out: "out",
  };
  byId("status").dataset.state = state;
  byId("status").textContent = words[state];
}

const CALL_STATES = { ringing: "calling", linking: "connecting", live: "connected" };

function videoOf(stream, className) {
  const video = element("video", className);
  Object.assign(video, { autoplay: true, playsInline: true, muted: className === "own" });
  video.srcObject = stream;
  return video;
}

/** A card for a call, which `refresh`es itself when the call changes. */
export function callCard(call, name) {
  const card = element("section", "card call");
  const state = element("p", "hint");
  const stage = element("div", "stage");
  if (call.video) stage.append(videoOf(call.remote, "other"), videoOf(call.local, "own"));
  const actions = element("div", "actions");
  const toggles = ["audio", "video"].map((kind) => button("", "", () => call.toggle(kind)));
  if (call.video) actions.append(...toggles);
  actions.append(button("Hang up", "danger", () => call.hangUp()));
  card.append(element("h2", "", name), state, stage, actions);
  const refresh = () => {
    const kind = call.video ? "video" : "data channel";
    state.textContent = `${kind}, ${CALL_STATES[call.state] ?? call.state}`;
    card.dataset.state = call.state;
    toggles[0].textContent = call.isOn("audio") ? "Mute" : "Unmute";
    toggles[1].textContent = call.isOn("video") ? "Camera off" : "Camera on";
  };
  refresh();
  return { card, refresh };
}

/** Asks whether to take a call; goes away when answered or when the call has ended. */
export function inviteCard(call, name, { accept, decline }) {
  const card = element("div", "card invite");
  const wish = call.video ? "would like a video call" : "would like to link directly";
  card.append(
    element("p", "", `${name} ${wish}.`),
    button("Accept", "primary", accept),
    button("Decline", "quiet", decline),
  );
  return card;
}
