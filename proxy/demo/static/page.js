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

  document.getElementById("xhr").onclick = function () { ask(show("XMLHttpRequest")); };
  document.getElementById("fetch").onclick = function () { fetchAnswer(show("fetch()")); };
  document.getElementById("fetch").disabled = !window.fetch;
  document.getElementById("upload").onsubmit = function (event) {
    event.preventDefault();
    upload(event.target);
  };
}());
