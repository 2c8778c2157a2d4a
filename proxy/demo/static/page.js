/* Written for Internet Explorer 11 too: no arrow functions, no promises outside fetch(). */
(function () {
  "use strict";

  function ask(onAnswer) {
    var request = new XMLHttpRequest();
    request.open("GET", "/file/last_uploaded");
    request.setRequestHeader("X-Requested-With", "XMLHttpRequest"); // as jQuery does
    request.setRequestHeader("Accept", "application/json, text/javascript, */*; q=0.01");
    request.onload = function () {
      onAnswer(request.responseText, request.getResponseHeader("Cache-Control"));
    };
    request.send();
  }

  function fetchAnswer(onAnswer) {
    fetch("/file/last_uploaded").then(function (response) { // sends no X-Requested-With
      response.text().then(function (text) {
        onAnswer(text, response.headers.get("Cache-Control"));
      });
    });
  }

  function upload(form) {
    var request = new XMLHttpRequest();
    request.open("POST", "/file/upload");
    request.setRequestHeader("X-Requested-With", "XMLHttpRequest");
    request.onload = function () {
      show("upload")(request.responseText, request.getResponseHeader("Cache-Control"));
    };
    request.send(new FormData(form));
  }

  function show(askedBy) {
    return function (answer, cacheControl) {
      var row = document.getElementById("answers").insertRow(0);
      [askedBy, answer, cacheControl || "(none)"].forEach(function (text) {
        row.insertCell(-1).appendChild(document.createTextNode(text));
      });
    };
  }

  function get(path, onAnswer) {
    var request = new XMLHttpRequest();
    request.open("GET", path);
    request.setRequestHeader("X-Requested-With", "XMLHttpRequest");
    request.onload = function () {
      onAnswer(JSON.parse(request.responseText), request.getResponseHeader("Cache-Control"));
    };
    request.onerror = function () { judge("", "No answer. Is the demo still running?"); };
    request.send();
  }

  function put(id, text) {
    document.getElementById(id).textContent = text;
  }

  function judge(verdict, text) {
    document.getElementById("verdict").className = verdict;
    put("verdict", text);
  }

  function watchClock() {
    get("/clock", function (shown, cacheControl) {
      get("/clock/now", function (truth) {
        var behind = Math.round(truth.seconds - shown.seconds);
        put("shown", shown.time);
        put("truth", truth.time);
        put("field", cacheControl || "(none)");
        if (behind > 1) {
          judge("stale", "Stale: the browser repeats an answer that is " + behind + " seconds old. It does not ask the app.");
        } else {
          judge("fresh", "Fresh: the answer has just come from the app.");
        }
      });
    });
  }

  function sayWhere() {
    var proxy = document.body.getAttribute("data-proxy");
    var other = document.getElementById("other");
    if (!proxy) { return; }
    if (location.protocol + "//" + location.host === proxy) {
      put("where", "Behind the proxy");
      other.href = document.querySelector("a[href$='/both']").href.replace(/both$/, "");
      put("other", "The same page without the proxy");
    } else {
      put("where", "Without the proxy");
    }
  }

  sayWhere();
  watchClock();
  setInterval(watchClock, 1000);
  document.getElementById("xhr").onclick = function () { ask(show("XMLHttpRequest")); };
  document.getElementById("fetch").onclick = function () { fetchAnswer(show("fetch()")); };
  document.getElementById("fetch").disabled = !window.fetch;
  document.getElementById("upload").onsubmit = function (event) {
    event.preventDefault();
    upload(event.target);
  };
}());
