// The page of those who have no session.

import { h, text } from "../dom.js";
import { field, input, mark } from "../widgets.js";

export function signInPage({ fault, signIn, themeSwitch }) {
  const token = input({ type: "password", name: "token", autocomplete: "current-password",
    required: true, placeholder: "paste it here" });
  const place = field("Admin token", token);
  if (fault) place.complain(fault);
  const go = h("button", { class: "primary" }, "Sign in");
  const form = h("form", { novalidate: true }, place, go);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    place.complain(null);
    const value = token.value.trim();
    if (!value) return place.complain("Paste the admin token first.");
    go.disabled = true;
    text(go, "Signing in …");
    try {
      await signIn({ token: value });
    } catch (error) {
      place.complain(wordsOf(error));
      token.select();
    } finally {
      go.disabled = false;
      text(go, "Sign in");
    }
  });
  return h("div", { class: "sign-in" },
    h("main", { id: "content", tabindex: "-1" },
      h("h1", {}, mark(36), "ringmesh"), form,
      h("div", { class: "hint" },
        h("p", {}, "Without pasting: ", h("code", {}, "ringmesh console"),
          " prints a link that signs in."),
        h("p", {}, "The token is in ", h("code", {}, "admin.token"),
          " of the server's data directory."))),
    h("footer", {}, themeSwitch));
}

function wordsOf(error) {
  if (error.status === 401) return "This is not the admin token of this server.";
  if (error.status === 429) return "Too many tries from this address; wait a minute.";
  if (error.status === 0) return "No server answers here.";
  return error.message;
}
