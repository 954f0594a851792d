import { ApiProblem, search, signUp, type User } from "./api";

const byId = <T extends HTMLElement>(id: string) => document.getElementById(id) as T;

// ── the people ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** Typing is followed by a search once it pauses. */
const PAUSE_MS = 250;
/** The API finds a new user after at most a second. */
const FOUND_AFTER_MS = 1_100;

const list = byId<HTMLUListElement>("list");
const query = byId<HTMLInputElement>("query");
const more = byId<HTMLButtonElement>("more");
let next: string | undefined;
/** The one request whose answer is still wanted. */
let asking = new AbortController();
let newest: User | undefined;

const words = () => query.value.trim();

/** @param after the last user shown, where more are asked for */
async function show(after?: string): Promise<void> {
  asking.abort();
  asking = new AbortController();
  const { signal } = asking;
  list.setAttribute("aria-busy", "true");
  try {
    const page = await search(words(), after, signal);
    const items = page.users.map(personItem);
    if (after) list.append(...items);
    else list.replaceChildren(...items);
    next = page.next;
    more.hidden = next === undefined;
    tell("list-error");
    if (after) items[0]?.focus();
    byId("status").textContent = summary(list.children.length, next !== undefined);
  } catch (error) {
    if (signal.aborted) return;
    more.hidden = true;
    byId("status").textContent = "";
    tell("list-error", messageOf(error));
  }
  list.setAttribute("aria-busy", "false");
}

function summary(count: number, isCut: boolean): string {
  if (count === 0) return words() ? `Nobody matches “${words()}”.` : "Nobody is here yet. Be the first!";
  const people = count === 1 ? "1 person" : `${isCut ? "More than " : ""}${count} people`;
  return words() ? `${people} found` : people;
}

function personItem(user: User): HTMLLIElement {
  const item = document.createElement("li");
  item.tabIndex = -1;
  item.classList.toggle("new", user.id === newest?.id);
  const avatar = element("span", "avatar", initials(user.name));
  avatar.ariaHidden = "true";
  avatar.style.setProperty("--hue", String(hueOf(user.id)));
  const who = element("p", "who");
  who.append(element("strong", "", user.name), element("span", "id", `@${user.id}`));
  const text = element("div", "person");
  text.append(who);
  if (user.about) text.append(element("p", "about", user.about));
  item.append(avatar, text);
  return item;
}

function element(tag: string, className: string, text = ""): HTMLElement {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

/** Of the first and the last word. */
function initials(name: string): string {
  const parts = name.trim().split(/\s+/);
  const ends = parts.length > 1 ? [parts[0], parts.at(-1)] : parts;
  return ends.map((part) => [...(part ?? "")][0] ?? "").join("");
}

const hueOf = (id: string) => [...id].reduce((hue, letter) => (hue * 31 + letter.charCodeAt(0)) % 360, 7);

let pause: ReturnType<typeof setTimeout>;
query.addEventListener("input", () => {
  clearTimeout(pause);
  pause = setTimeout(startSearch, PAUSE_MS);
});
byId("search").addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(pause);
  startSearch();
});
more.addEventListener("click", () => void show(next));
byId("retry").addEventListener("click", () => void show());

/** The address tells what is searched for, so that it can be passed on. */
function startSearch(): void {
  history.replaceState(null, "", words() ? `?query=${encodeURIComponent(words())}` : "/");
  void show();
}

// ── signing up ──────────────────────────────────────────────────────────────────────────────────────────────────────

const join = byId<HTMLFormElement>("join");
const fields = [...join.querySelectorAll<HTMLInputElement | HTMLTextAreaElement>("input, textarea")];
const submit = join.querySelector("button") as HTMLButtonElement;

const RULES: Record<string, string> = {
  id: "Choose 2 to 32 lower-case letters, digits, “-” or “_”, beginning with a letter or digit.",
  name: "Tell us your name.",
};

function check(field: HTMLInputElement | HTMLTextAreaElement): boolean {
  const isBlank = field.required && field.value.trim() === "";
  const isValid = field.validity.valid && !isBlank;
  mark(field, isValid ? undefined : RULES[field.name]);
  return isValid;
}

function mark(field: HTMLElement, message?: string): void {
  if (message) field.setAttribute("aria-invalid", "true");
  else field.removeAttribute("aria-invalid");
  tell(`${field.id}-error`, message);
}

for (const field of fields) {
  // Not while the first word is typed; but a mistake that was told goes as soon as it is mended.
  field.addEventListener("input", () => field.ariaInvalid && check(field));
}

join.addEventListener("submit", (event) => {
  event.preventDefault();
  const wrong = fields.filter((field) => !check(field));
  if (wrong.length > 0) wrong[0]?.focus();
  else void create();
});

async function create(): Promise<void> {
  const [id = "", name = "", about = ""] = fields.map((field) => field.value.trim());
  tell("join-error");
  submit.disabled = true;
  try {
    const { token } = await signUp({ id, name, ...(about && { about }) });
    newest = { id, name, about, createdAt: new Date().toISOString() };
    join.reset();
    welcome(name, token);
    setTimeout(show, FOUND_AFTER_MS);
  } catch (error) {
    if (error instanceof ApiProblem && error.status === 409) refuse("id", `“${id}” is taken. Choose another one.`);
    else tell("join-error", messageOf(error));
  } finally {
    submit.disabled = false;
  }
}

function refuse(id: string, message: string): void {
  const field = byId(id);
  mark(field, message);
  field.focus();
}

function welcome(name: string, token: string): void {
  byId("welcome-title").textContent = `Welcome, ${name}!`;
  byId("token").textContent = token;
  byId("copy").textContent = "Copy";
  byId("welcome").hidden = false;
  byId("welcome").focus();
}

byId("copy").addEventListener("click", async () => {
  const token = byId("token");
  try {
    await navigator.clipboard.writeText(token.textContent ?? "");
    byId("copy").textContent = "Copied";
  } catch {
    // Without HTTPS there is no clipboard: the token is marked, to be copied by hand.
    getSelection()?.selectAllChildren(token);
  }
});

// ── both ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Shows a message at its place, or takes it away. */
function tell(id: string, message = ""): void {
  const place = byId(id);
  (document.getElementById(`${id}-text`) ?? place).textContent = message;
  place.hidden = message === "";
}

const messageOf = (error: unknown) => (error instanceof ApiProblem ? error.message : "Something went wrong here.");

query.value = new URLSearchParams(location.search).get("query") ?? "";
void show();
